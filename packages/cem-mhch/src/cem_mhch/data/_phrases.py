"""What users and the bot of the simulated customer service say."""

INTENTS = {
    "order": ("my order", "the parcel", "order {n}", "my package"),
    "refund": ("a refund", "my money back", "the refund for order {n}", "the return"),
    "login": ("my account", "the login", "my password", "the sign in page"),
    "billing": ("my bill", "the invoice", "a charge of {n} dollars", "the last payment"),
    "internet": ("my connection", "the router", "the wifi", "my line"),
}

REQUEST = (
    "hi, i have a question about {it}",
    "hello, can you check {it} please",
    "i need help with {it}",
    "what is going on with {it}?",
    "there is a problem with {it}",
    "ugh, {it} is terrible today, please have a look",
    "could you tell me about {it}",
)
BOT_ASK = (
    "sure, could you give me the number of your case?",
    "i can help with {it}. which date was it?",
    "let me look at {it}. can you confirm your name?",
    "happy to help with {it}. what is your postcode?",
)
BOT_SOLVE = (
    "i found {it} and have corrected it. is there anything else?",
    "good news, {it} is settled now. anything else?",
    "done, {it} should work again. can i do more for you?",
    "i have updated {it} for you. does that help?",
)
BOT_FAIL = (
    "sorry, i did not understand that. could you say it another way?",
    "i am not sure what you mean by that. please rephrase.",
    "i can help with orders, refunds, accounts and bills. which one is it?",
    "please see our help pages about {it}.",
    "let me look at {it}. can you confirm your name?",
    "i have noted {it}. is there anything else?",
)
USER_ANSWER = ("it is {n}", "{n}, thanks", "yes, {n}", "the number is {n}", "ok, {n}")
USER_CALM_AGAIN = (
    "no, i meant {it}",
    "i was asking about {it}",
    "that is not what i asked, it is about {it}",
    "hmm, that does not answer it. {it}?",
    "ok, but what about {it}?",
)
USER_ANGRY = (
    "this is useless, i asked about {it}",
    "you are not listening, {it} again",
    "how many times do i have to repeat this?",
    "that is ridiculous, nothing works here",
    "i am losing my patience with {it}",
    "great, the same answer again, wonderful service",
    "forget it, you do not help at all",
)
USER_TIRED = ("whatever", "fine, {it} then", "ok", "again {it}", "no", "right", "{it}. again.")
USER_PERSON = (
    "let me talk to a human",
    "i want to speak to a real person",
    "can i talk to an agent please",
    "connect me to someone from your team",
    "is there a person i can call about {it}?",
)
USER_THANKS = ("thank you, that helped", "great, thanks a lot", "perfect, bye", "ok thanks", "thanks, that was all")
USER_LEAVE = ("bye", "i give up", "never mind", "i will try somewhere else")
