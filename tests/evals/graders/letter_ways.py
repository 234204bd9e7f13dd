"""Letters as models state them, right and wrong ones. One a line; ⏎ is a new line."""

LETTERS = r"""
The answer is C.
The answer is (C).
The answer is **C**.
The answer is **(C) 42**.
**The answer is C.**
The answer is: C
The answer is "C".
The answer is `C`.
The answer is $C$.
The answer is $\text{C}$.
The answer is $\mathbf{C}$.
The answer is \(\textbf{(C)}\).
The answer is [C].
The answer is option C.
The answer is choice (C).
The answer is letter C.
The answer is C: 42
The answer is C) 42
The answer is C – 42
The answer is (C), 42.
The answer is C, not D.
The answer is 42.
The answer is 42, i.e. (C).
The answer is **42**.
The correct answer is **C**.
The best answer would be (C) 42.
Final answer: C
Final Answer: **C**
**Final Answer:** (C)
### Final Answer⏎C
### Final Answer⏎⏎**C**
## Answer: C
**Answer**⏎⏎(C)
Answer:⏎C
Answer: C⏎Explanation: A is too small and B is too large.
Answer: C⏎Confidence: 90%
Answer - C
ANSWER: (c)
My answer is C.
So my final answer is C, because A is too small.
The final answer is $\boxed{C}$.
\boxed{\text{(C)}}
\boxed{\text{C) 42}}
\boxed{\mathrm{C}}
\boxed{\textbf{C. } 42}
\boxed{\text{The answer is C}}
\boxed{{C}}
\boxed{C: 42}
\boxed{C,\ 42}
\boxed{(C)\ 42}
I answer in \boxed{}. The answer is C.
I answer as \boxed{letter}. The answer is C.
\boxed{C}⏎⏎Question: another?⏎(A) x⏎\boxed{A}
The answer is C.⏎⏎Question: another?⏎Answer: A
<think>\boxed{A}? The answer is B.</think>⏎The answer is C.
<think>\boxed{A}</think>⏎**C**
<answer> C </answer>
<answer>(C) 42</answer>
A is too small.⏎#### C
C is the correct answer.
Option C is the correct answer.
(C) is the answer.
Thus (C) 42 is the right choice.
Hence, option (C) is correct.
So the correct option is C) 42.
The correct choice among these is C.
The answer to the question is C.
The answer (by elimination) is C.
The answer is therefore C.
The answer must be C since D is too small.
The answer should be C.
The answer turns out to be C.
Therefore, the answer is: **C) 42**
答案是C。
答案：C
Answer：（C）
\textbf{Answer: C}
\textbf{Answer:} C
"""
"""All of them state C of the choices 10 m, 5 x 10^3 kg, 42 and 20."""

OTHER_LETTERS = r"""
The answer is not C.
The answer is neither A nor C.
The answer is A or C.
The answer is either A or C.
The answer could be A, B or C.
The answer is between B and C.
The answer is C and D.
The answer is C/D.
\boxed{C, D}
\boxed{C} or \boxed{D}
\boxed{C \text{ and } D}
\boxed{CD}
\boxed{C+1}
\boxed{C_2}
\boxed{C'}
\boxed{C = 5}
\boxed{D}. The answer is C.
\boxed{C. 20}
The answer is C. 20
The answer is 20 (C).
The answer is 20.
The answer is larger than (C).
The answer is C-14 dating.
The answer is Carbon.
The answer is CO.
The answer is in C major.
If C is the answer, then A is too.
C is not the answer.
Option C is incorrect.
(C) is wrong.
Is C the answer?
Which of A, B and C is the answer?
The answer choices are A, B, C, D.
The answer is D.⏎⏎Question: another?⏎Answer: C
<think>\boxed{C}</think> The answer is D.
<think>\boxed{C}</think> I do not know.
Answer: C⏎Wait, no.⏎Answer: D
Final answer: D. If x were 3, the answer would be C.
<answer>D</answer> C
#### D⏎#### C
A⏎B⏎C⏎D
C looks good
Answer C was my first thought.
I would choose between C and D
The answer is everything but C
The answer is anything except (C)
Let C be the answer.
\boxed{\text{not C}}
\boxed{\text{none}}
\boxed{E}
Everyone answers: C?? I say D.
The answer is D, C is wrong.
"""
"""None of them states C."""
