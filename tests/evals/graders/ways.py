"""Ways in which models state an answer, right and wrong ones. One a line; ⏎ is a new line."""

NUMBERS = r"""
The answer is 14.
The answer is: 14
The answer is **14**.
**The answer is 14 apples.**
Final answer: 14
**Final Answer:** 14
**Final Answer**: 14 (in apples)
### Final Answer⏎14
### Final Answer:⏎⏎**14**
## Answer⏎⏎14 apples
**Answer**⏎$14$
Answer: 14⏎Explanation: 7 boxes of 2, for 3 people.
Answer: 14⏎Confidence: 90%
Answer - 14
ANSWER: 14.
The answer to the question is 14. There were 3 boxes.
The answer (in dollars) is $14. He has 3 left.
The final answer is $14$. I hope it is correct.
Final Answer: The final answer is $14$. I hope it is correct.
Therefore, the final answer is $\boxed{14}$. Check: 3+11.
The answer is \(14\). Note that 3 of them are red.
The answer is \[14\] as of 2023.
The answer is:⏎$$⏎14⏎$$⏎which took 3 steps.
\[ \boxed{14} \]⏎Step 5 was the hardest.
\boxed{14\text{ cm}^2}
\boxed{14 \text{ square units}}
\boxed{\text{14 apples}}
\boxed{\text{Total: } 14}
\boxed{\$14.00}
\boxed{14\%}
\boxed{14^\circ}
\boxed{14^{\circ}\text{C}}
\boxed{m+n = 14}
\boxed{\mathbf{14}}
\boxed{{14}}
\boxed{ 014 }
\boxed{\frac{28}{2}}
\boxed{\dfrac{28}{2}\text{ units}}
\boxed{1.4 \times 10^{1}}
\boxed{14 \text{ m}/\text{s}}
\boxed{14\,\mathrm{cm}^3}
\boxed{14}⏎⏎I put the answer in \boxed{}.
I will answer in \boxed{}. It is 3 + 11, the answer is 14.
Put it as \boxed{answer}. The answer is 14 since 3 + 11.
\boxed{14}, that is \boxed{14}
#### 14
#### 14⏎⏎Question: Tom has 3 apples. How many?⏎#### 3
#### 14⏎⏎#### 3
#### $14$
<answer>14</answer> in 3 steps
<answer>\boxed{14}</answer>
<think>maybe \boxed{3}, or the answer is 4</think>The answer is 14, in 2 steps.
<think>maybe \boxed{3}</think>⏎14 apples
The answer is \boxed{14}.⏎⏎Problem: What is 3 + 4?⏎Solution: \boxed{7}
The answer is 14.⏎⏎Q: What is 3 + 4?⏎A: The answer is 7.
The answer is 7 * 2 = 14. Each pays 7.
The answer is x = 14, not 15.
Answer: 20 - 6 = 14 apples
The answer is approximately 14. (13.98 before rounding)
The answer is about $14 per person for 3 people.
The answer is 28/2. That is for 3 people.
So the answer would be 14, for all 3.
The correct answer is therefore 14 for 2023.
The answer is: Tom has 14 apples.
Answer: there are 14.
the answer is 14%. In 2023 it was 3%.
The answer is 14.00 dollars, i.e. 3 more.
14 is the answer, as 3 + 11 shows.
Hence 14 is the final answer. It took 3 steps.
答案是14。共3步
答案：14
The answer is 1.4e1.
The answer is 1.4 × 10^1.
The area is 14 cm^2.
The area is 14 cm².
It is not 3 but 14
The answer is 14 (fourteen). The check gives 3.
The answer is *14* for 3.
The answer is `14`, see line 3.
The answer is "14", see line 3.
The answer is $\text{14}$ for 3.
The answer is $14.
The answer is 14⏎3
The answer is not 3. The answer is 14.
The answer is 14. So the answer is correct. 3
The answer is 14. The answer is in the box on page 3?
"""
"""All of them state 14."""

OTHER_NUMBERS = r"""
The answer is 15. 14 is the check.
The answer is not 14.
The answer is 14 or 15.
The answer is between 14 and 16.
The answer is 14 to 16.
The answer is 14-16.
The answer is 14^2.
The answer is 14 + 3.
The answer is 14x.
The answer is 1/14.
The answer is 14 million.
The answer is 2^{14}.
It is 2^14
\boxed{14 x^2}
\boxed{14x}
\boxed{14\pi}
\boxed{14, 15}
\boxed{14} or \boxed{15}
\boxed{14 \text{ or } 15}
\boxed{14!}
\boxed{14^2}
\boxed{2^{14}}
\boxed{14/x}
\boxed{14 \cdot 2}
\boxed{14(2)}
\boxed{\sqrt{14}}
\boxed{14\frac{1}{2}}
\boxed{x > 14}
\boxed{15} is right, not the answer is 14
<think>\boxed{14}</think> The answer is 15.
#### 15⏎#### 14
The answer is 15.⏎⏎Question: 7 + 7?⏎The answer is 14.
14 1/2
\boxed{1.4 \times 10^{2}}
\boxed{140}
\boxed{14 \text{ thousand}}
\boxed{14:30}
\boxed{\{14\}}
The answer is 14, 15.
The answer is 14 and 15.
The answer is -14.
The answer is 15 = 14 + 1.
Answer: 15⏎Confidence: 14
Final answer: 15. If it rained, the answer would be 14.
the answer is 14 - 3
<answer>15</answer> 14
15 is the answer. 14
\boxed{15} The answer is 14.
"""
"""None of them states 14."""

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
