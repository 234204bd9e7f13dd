// Which tokens two texts share, in order: the longest common subsequence behind their common beginning and end.

const MOST_CELLS = 8e6; // of the table; larger texts are only compared from both ends

function commonTokens(a, b) {
  const inA = new Uint8Array(a.length), inB = new Uint8Array(b.length);
  let start = 0, endA = a.length, endB = b.length;
  while (start < endA && start < endB && a[start] === b[start]) { inA[start] = inB[start] = 1; start++; }
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { inA[--endA] = 1; inB[--endB] = 1; }
  const n = endA - start, m = endB - start;
  if (!n || !m || n * m > MOST_CELLS) return [inA, inB];
  const width = m + 1, length = new Uint16Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      length[i * width + j] = a[start + i] === b[start + j]
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < n && j < m; ) {
    if (a[start + i] === b[start + j]) { inA[start + i++] = 1; inB[start + j++] = 1; }
    else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i++;
    else j++;
  }
  return [inA, inB];
}
