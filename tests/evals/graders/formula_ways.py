"""Formulas as models write them: a reference, a bar with spaces, a completion. One a line; ⏎ is a new line."""

FORMULAS = r"""
73 | The answer is $73$.
73 | The answer is: $73$
73 | The answer is 73.
73 | The answer is **73**.
73 | **The answer is 73**
73 | Final answer: 73
73 | Final Answer: $73$
73 | **Final Answer:** $$73$$
73 | ### Final Answer⏎73
73 | ### Final Answer:⏎⏎\[73\]
73 | **Final Answer**⏎⏎$\boxed{73}$
73 | The answer is⏎\[⏎73⏎\]⏎as claimed.
73 | Answer:⏎$$⏎73.⏎$$
73 | So the final answer is \(73\), as 70 + 3 = 73.
73 | The answer is $x = 73$ because 2 + 71 = 73.
73 | The answer is about 73 (rounded to 2 decimal places).
73 | Therefore the answer is therefore $73$.
73 | The answer to the problem is $73$. I hope it is correct.
73 | <answer>73</answer>
73 | <answer>$73$</answer> done
73 | #### 73
73 | #### $73$
73 | $73$ is the answer.
73 | Hence $73$ is our final answer.
73 | <think>\boxed{5}</think>The answer is 73.
73 | \boxed{73}⏎⏎Problem: 2+2⏎\boxed{4}
73 | \boxed{\boxed{73}}
73 | \boxed{{73}}
73 | \fbox{73}
73 | \boxed{73.}
73 | \boxed{$73$}
73 | \boxed{\(73\)}
73 | \boxed{\displaystyle 73}
73 | \boxed{\mathbf{73}}
73 | \boxed{\text{73}}
73 | \boxed{x = 73}
73 | \boxed{a + b = 73}
73 | \boxed{70 + 3 = 73}
73 | \boxed{73 \text{ apples}}
73 | \boxed{\text{73 apples}}
73 | \boxed{73\%}
73 | \boxed{073}
73 | \boxed{73} or equivalently \boxed{73}
73 | Put it in \boxed{answer}. The answer is 73.
73 | The answer is $73$. The answer is correct.
\frac{1}{2} | The answer is $\frac12$.
\frac{1}{2} | The answer is 1/2.
\frac{1}{2} | The answer is ½.
\frac{1}{2} | \boxed{\tfrac{1}{2}}
\frac{1}{2} | \boxed{\cfrac{1}{2}}
\frac{1}{2} | \boxed{\frac{1}{2} \approx 0.50}
\frac{7}{2} | \boxed{3\tfrac12}
\frac{7}{2} | \boxed{3 \frac{1}{2}}
-\frac{7}{2} | \boxed{-3\frac{1}{2}}
\frac{1}{6} | \boxed{0.1\overline{6}}
\frac{1}{3} | \boxed{0.\bar{3}}
10080 | \boxed{10\,080}
10080 | \boxed{10{,}080}
10080 | \boxed{10,080}
1,-2 | The answers are $1$ and $-2$.
1,-2 | The answer is $x = 1$ or $x = -2$.
1,-2 | \boxed{x = 1, -2}
1,-2 | \boxed{x = 1 \text{ or } x = -2}
1,-2 | \boxed{x=-2, x=1}
1,-2 | \boxed{\{1, -2\}}
1,-2 | \boxed{-2} and \boxed{1}
1,-2 | $x=\boxed{1}$ or $x=\boxed{-2}$
(3,4] | \boxed{3 < x \leq 4}
(3,4] | \boxed{x \in (3,4]}
(3,4] | The answer is $(3, 4]$.
(2,\infty) | \boxed{x > 2}
(2,\infty) | \boxed{\{x \mid x > 2\}}
(15,-29) | \boxed{\langle 15, -29 \rangle}
(15,-29) | \boxed{(x, y) = (15, -29)}
(15,-29) | \boxed{x = 15, y = -29}
(15,-29) | \boxed{15, -29}
\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix} | \boxed{\left[\begin{array}{c} -7 \\ 16 \\ 5 \end{array}\right]}
\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix} | \boxed{\begin{pmatrix} -7 \\[4pt] 16 \\[4pt] 5 \\ \end{pmatrix}}
\text{even} | The answer is even.
\text{even} | \boxed{\textbf{even}}
\text{even} | \boxed{\text{Even}}
\text{Evelyn} | The answer is Evelyn.
\text{(B)} | The answer is (B).
\text{(B)} | \boxed{B}
\text{ellipse} | The answer is an ellipse.
\text{ellipse} | \boxed{\text{an ellipse}}
y = 2x + 3 | The equation is the answer: $y = 2x + 3$
y = 2x + 3 | \boxed{y = 3 + 2x}
y = 2x + 3 | \boxed{2x - y + 3 = 0}
5x - 7y + 11z + 4 = 0 | \boxed{10x - 14y + 22z + 8 = 0}
x^3+3x-6 | \boxed{f(x) = x^3 + 3x - 6}
2\sqrt{5} | The answer is 2√5.
2\sqrt{5} | The answer is 2*sqrt(5).
2\sqrt{5} | \boxed{2\sqrt5 \text{ units}}
2\sqrt{5} | \boxed{\sqrt{20}}
12\pi | The answer is 12π.
12\pi | The answer is 12pi cm^2.
3\sqrt{13} | \boxed{3\sqrt{13} \approx 10.82}
90^\circ | \boxed{90^\circ}
90^\circ | \boxed{90}
90^\circ | The answer is 90 degrees.
90^\circ | The answer is 90°.
\$18.90 | \boxed{\$18.90}
\$18.90 | \boxed{18.90 \text{ dollars}}
\$18.90 | \boxed{18.9}
15\mbox{ cm}^2 | \boxed{15 \text{ cm}^{2}}
15\mbox{ cm}^2 | \boxed{15\,\mathrm{cm}^2}
15\mbox{ cm}^2 | \boxed{15 \text{ square cm}}
15\mbox{ cm}^2 | \boxed{15 \text{ sq cm}}
864 \mbox{ inches}^2 | \boxed{864 \text{ in}^2}
864 \mbox{ inches}^2 | \boxed{864 \text{ square inches}}
5.4 \text{ cents} | \boxed{5.4 \text{ cents}}
6 - 5i | \boxed{6-5 i}
6 - 5i | \boxed{-5i + 6}
6 - 5i | \boxed{6 + (-5)i}
40_9 | \boxed{40_{\text{nine}}}
40_9 | \boxed{40_{9}}
40_9 | \boxed{40}
.0000672 | \boxed{6.72 \times 10^{-5}}
.0000672 | \boxed{6.72 \cdot 10^{-5}}
.0000672 | The answer is 6.72e-5.
2k+2 | \boxed{2(k+1)}
\frac{n(n+1)}{2} | \boxed{\frac{n^2+n}{2}}
\frac{n(n+1)}{2} | \boxed{n(n+1)/2}
\cot x | \boxed{\frac{1}{\tan x}}
\cot x | \boxed{\cot(x)}
e^2 | \boxed{\mathrm{e}^2}
\ln 2 | \boxed{\ln(2)}
\log_2 3 | \boxed{\frac{\ln 3}{\ln 2}}
\sin^2 x | \boxed{1-\cos^2 x}
\binom{5}{2} | \boxed{10}
5000000 | \boxed{5 \text{ million}}
\emptyset | \boxed{\varnothing}
\frac{x+1}{x-1} | \boxed{1 + \frac{2}{x-1}}
3:30 \text{ PM} | \boxed{3{:}30 \text{ p.m.}}
3:30 \text{ PM} | \boxed{3:30\text{ pm}}
(-\infty, 0] | \boxed{x \le 0}
1 \pm \sqrt{19} | \boxed{1 \pm \sqrt{19}}
1 \pm \sqrt{19} | \boxed{x = 1 \pm \sqrt{19}}
1 \pm \sqrt{19} | \boxed{1+\sqrt{19}}, \boxed{1-\sqrt{19}}
\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right] | \boxed{\left[\frac{\pi^2}{8},\frac{5\pi^2}{4}\right]}
\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right] | The answer is $\left[\tfrac{1}{8}\pi^2, 1.25\pi^2\right]$.
(-\infty, 2) \cup (3, \infty) | \boxed{(-\infty,2)\cup(3,\infty)}
(-\infty, 2) \cup (3, \infty) | \boxed{x \in (3,\infty) \cup (-\infty, 2)}
x \in [-2,7] | \boxed{-2 \leqslant x \leqslant 7}
\frac{\sqrt{2}}{2} | \boxed{\sin 45^\circ}
-\frac{1}{2} | \boxed{\cos 120^{\circ}}
f^{-1}(x) = x+1 | \boxed{x+1}
a_n = 2n | \boxed{2n}
2n | \boxed{a_n = 2n}
\theta = \frac{\pi}{4} | \boxed{\frac{\pi}{4}}
\frac{\pi}{4} | \boxed{\theta = \pi/4}
(0,9) \cup (9,36) | \boxed{(0,36) \setminus \{9\}}
(0,9) \cup (9,36) | \boxed{0<x<9 \text{ or } 9<x<36}
\{1\pm\sqrt{5},-2\} | \boxed{-2, 1+\sqrt{5}, 1-\sqrt{5}}
x^5 - x^4 + x^3 - x^2 + x - 1 | \boxed{(x-1)(x^4+x^2+1)}
\sqrt[3]{4} | \boxed{2^{2/3}}
137 \frac{1}{2} | \boxed{\frac{275}{2}}
(6,31,-1) | \boxed{(a,b,c) = (6,31,-1)}
"""
"""All of them state the reference."""

OTHER_FORMULAS = r"""
73 | The answer is not $73$.
73 | The answer is $37$. 73
73 | The answer is 73 or 74.
73 | \boxed{73} or \boxed{74}
73 | \boxed{73, 74}
73 | \boxed{73} \boxed{37}
73 | \boxed{\text{not } 73}
73 | \boxed{\text{at least } 73}
73 | \boxed{73 \text{ or more}}
73 | \boxed{73x}
73 | \boxed{73\pi}
73 | \boxed{x > 73}
73 | \boxed{x \ge 73}
73 | \boxed{2x = 73}
73 | \boxed{x^2 = 73}
73 | \boxed{x \ne 73}
73 | \boxed{73!}
73 | \boxed{7 3}
73 | \boxed{7(3)}
73 | \boxed{73'}
73 | \boxed{73_{8}}
73 | \boxed{73 \text{ million}}
73 | \boxed{730\%}
73 | \boxed{7300\%5}
73 | \boxed{\frac{73}{0}}
73 | \boxed{73 + \epsilon}
73 | \boxed{73 \pm 1}
73 | \boxed{-73}
73 | \boxed{73i}
73 | \boxed{73.0000001}
73 | \boxed{\{73, 74\}}
73 | \boxed{(73, 0)}
73 | \boxed{73 = 37}
73 | \boxed{73, \ldots}
73 | <think>\boxed{73}</think>The answer is 5.
73 | \boxed{5}⏎⏎Problem: ...⏎\boxed{73}
73 | The answer is the number on the left.
0.3333 | \boxed{0.3334}
\frac13 | \boxed{0.3333333333}
\sqrt{2} | \boxed{1.41421356237}
1.5 | \boxed{1.500001}
123456.75 | \boxed{123456.76}
|x| | \boxed{x}
\sqrt{x^2} | \boxed{x}
x^2 | \boxed{x^3}
x | \boxed{X}
x=5 | \boxed{y=5}
y = 2x + 3 | \boxed{z = 2x + 3}
y = 2x + 3 | \boxed{y > 2x + 3}
p - q | \boxed{q - p}
6 - 5i | \boxed{6 - 5}
6 - 5i | \boxed{6 - 5I}
6 - 5i | \boxed{6 - 5j}
(3,4] | \boxed{[3,4)}
(3,4] | \boxed{3 \le x < 4}
(3,4] | \boxed{\{3,4\}}
(3,4] | \boxed{3, 4, 5}
(2,4) | \boxed{(4,2)}
(2,4) | \boxed{4, 2}
(2,4) | \boxed{\{2,4\}}
(2,4) | \boxed{[2,4]}
1,-2 | \boxed{1}
1,-2 | \boxed{1, 2}
1,-2 | \boxed{1, -2, 3}
1,-2 | \boxed{1, 1}
\{1,2\} | \boxed{(1,2)}
\{1,2\} | \boxed{[1,2]}
(-\infty, 2) \cup (3, \infty) | \boxed{x < 2 \text{ and } x > 3}
(-\infty, 2) \cup (3, \infty) | \boxed{(-\infty, 2] \cup (3, \infty)}
(-\infty, 2) \cup (3, \infty) | \boxed{(-\infty, 2) \cap (3, \infty)}
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \boxed{\begin{pmatrix} 1 & 2 \end{pmatrix}}
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \boxed{\begin{vmatrix} 1 \\ 2 \end{vmatrix}}
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \boxed{(1,2)}
3:30 \text{ PM} | \boxed{3:30 \text{ AM}}
3:30 \text{ PM} | \boxed{3:30}
3:30 \text{ PM} | \boxed{3:31 \text{ PM}}
15\mbox{ cm}^2 | \boxed{15 \text{ cm}}
15\mbox{ cm}^2 | \boxed{15 \text{ m}^2}
15\mbox{ cm}^2 | \boxed{15 \text{ inches}^2}
\$18.90 | \boxed{18.90 \text{ cents}}
\$18.90 | \boxed{1890}
5.4 \text{ cents} | \boxed{5.4 \text{ dollars}}
90^\circ | \boxed{90 \text{ radians}}
40_9 | \boxed{40_8}
40_9 | \boxed{36}
\text{even} | \boxed{\text{odd}}
\text{even} | \boxed{\text{not even}}
\text{even} | \boxed{\text{uneven}}
\text{(B)} | \boxed{\text{(C)}}
\text{(B)} | \boxed{A, B}
1, 2, \ldots, n | \boxed{1, 2, \ldots, m}
1, 2, \ldots, n | \boxed{1, 2, n}
\ln 2 | \boxed{\log_{10} 2}
\emptyset | \boxed{0}
\frac{1}{2^{99}} | \boxed{\frac{1}{2^{98}}}
1.6 \times 10^{-19} | \boxed{1.7 \times 10^{-19}}
x^T | \boxed{x}
f'(x) | \boxed{f(x)}
0 | \boxed{\text{not } 0}
0 | \boxed{not 0}
0 | \boxed{0x}
0 | \boxed{1/0}
\infty | \boxed{-\infty}
a_n = 2n | \boxed{b_n = 2n}
f^{-1}(x) = x+1 | \boxed{f(x) = x+1}
\frac{\sqrt{2}}{2} | \boxed{\sin 45}
(0,9) \cup (9,36) | \boxed{(0,36)}
"""
"""None of them states the reference."""
