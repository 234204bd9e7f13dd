"""Numbers as models state them, right and wrong ones. One a line; ⏎ is a new line."""

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
To find the answer: 3 + 4 = 7 first. Then 7 * 2 = 14.
Let's find the answer: first 3 + 4 = 7.⏎So it is 14.
Answer: Janet sells 16 - 3 - 4 = 9 eggs a day.⏎She makes 5 more, 14.
Answer: Each box holds 4 apples. So 3 boxes hold 12. Total 14.
Answer: There are 3 boxes with 4 apples: 12. Then 12+2 = 14.
### Answer⏎⏎First, we compute 3*4 = 12. Then add 2: 14.
The answer is the sum of 3 and 11. So 14.
Answer: In 3 days, Tom has 14 apples.
Final answer: Tom has 14 apples.⏎⏎Note: prices of 2023.
The answer is that Tom has 14 apples. Check 3.
\boxed{14.}
\boxed{14 \text{ (apples)}}
\boxed{\text{\$}14}
\boxed{€14}
\boxed{14€}
\boxed{14/1}
\boxed{14\ \text{mph}}
\boxed{14~cm}
\boxed{\text{14 cm}^3}
\boxed{14\text{ m}^{2}}
\boxed{\left(14\right)}
\boxed{\approx 14}
\boxed{3 \times 4 + 2 = 14}
\boxed{\text{Yes, } 14}
\boxed{14 \text{ hours}}
\boxed{14h}
\boxed{14 \, \text{m/s}}
\boxed{14\text{ }}
\boxed{14 \quad}
\boxed{14 cm^2}
\boxed{x=14}
\boxed{\$14 \text{ per hour}}
\boxed{\text{Rs. } 14}
\boxed{\textbf{14}}
\boxed{\color{red}{14}}
The answer is 14:00.
$14$ is the final answer.
**The final answer is: $\boxed{14}$**
The answer is therefore **$14**.
The answer is $14$, not $15$.
The answer is 14, or about 14.02 before rounding
The answer is $\frac{28}{2}$.
The answer is $7 \times 2 = 14$.
The answer is $x=14$.
The answer is 14 because 7 + 7.
The answer is 14 apples and he is happy.
The answer is 14 and that is that: 3.
So the answer is 14 - which took 3 steps.
So the answer is 14 – which took 3 steps.
The answer is 14; 3 more.
The answer is 14, 3 of which are red.
The answer is 14? Let me check: 3 + 11 = 14. Yes.
The answer is (14).
The answer is [14].
The answer is {14}.
The answer is: 14/1.
Final Answer:⏎⏎```⏎14⏎```
Final Answer: 14 | 3
| Answer | 14 |
Answer: $\text{Total} = 14$
The final answer is 14 minutes, 0 seconds
A: 14
Therefore 14. QED.
Therefore, there are 14 dogs in 3 parks? I mean: 14
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
The answer is the sum of 14 and 11.
\boxed{14a}
\boxed{14\frac{km}{h} + 2}
\boxed{1.14}
\boxed{14\%\text{ of } 20}
\boxed{20 - 14}
\boxed{14, \text{ and } 3}
\boxed{14 \text{ to } 16}
\boxed{\text{more than } 14}
The answer is 15. It is not 14.
Is the answer 14? No, the answer is 15.
the answer is 14 thousand
14 is not the answer. 15 is.
The answer is 14.5
The answer is 14,5
The answer is 14,500
The answer is 14e3.
The answer is 14/3.
The answer is 14 1/3.
The answer is 3*14.
The answer is $14x$.
The answer is $14\sqrt{2}$.
The answer is 14π.
The answer is 14 times 3.
"""
"""None of them states 14."""
