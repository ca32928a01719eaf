#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prompts for the shipped model, one a line, as `layerskip generate-corpus --special --prompts` reads them (\\n stands for a line break).

    scripts/model_prompts.py --chat FILE.jsonl                     the prompts of a file of {"class", "prompt"}: class, tab, prompt in the model's chat format
    scripts/model_prompts.py N [--held M HELD] [--texts FOLDER] [--never FILE.jsonl]
                                                                   N prompts to train on; M others, held out, go to the file HELD

Prompts are templates over words of our own, over WordNet's nouns, over functions of Python's library and beginnings of paragraphs (where FOLDER has those texts, see model_texts.py).
They are a function of the arguments alone. No prompt is like one of --never: none shares more than half of its words with one of them.
"""
import argparse
import json
import random
import re
import sys
from pathlib import Path

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"  # what the model's own template puts first

TOPICS = """the tides|photosynthesis|the Roman Empire|black holes|compound interest|the water cycle|jazz|coral reefs|the immune system|volcanoes|renewable energy|chess|the French Revolution|
earthquakes|bees|supply and demand|the human heart|electric cars|the Silk Road|meditation|plate tectonics|inflation|Shakespeare|the Great Wall of China|artificial intelligence|sleep|rainbows|
the Olympic Games|antibiotics|democracy|whales|the stock market|gravity|tea|the moon landing|deserts|dreams|recycling|the Renaissance|vitamins|bridges|the ozone layer|dinosaurs|opera|magnets|
the Industrial Revolution|glaciers|honey|encryption|the brain|migration of birds|satellites|cheese|the Vikings|fermentation|lightning|the violin|soil|ancient Egypt|nuclear power|hurricanes|
the alphabet|mushrooms|insulin|the Amazon rainforest|trade unions|telescopes|yoga|bicycles|the metric system|penguins|public libraries|the internet|steel|wolves|impressionism|batteries|
the Cold War|chocolate|tsunamis|the nervous system|origami|wind turbines|time zones|paper|genetics|sharks|the calendar|concrete|stoicism|the carbon cycle|octopuses|coffee|the Black Death|
3D printing|folk music|evolution|the kidneys|airships|probability|the Sahara|submarines|comets|silk|memory|ants|the speed of light|taxes|cartography|the Middle Ages|maple syrup|algebra""".replace("\n", "").split("|")
PAIRS = """a virus and a bacterium|speed and velocity|a lake and a pond|butter and margarine|a debit card and a credit card|baroque and classical music|a crocodile and an alligator|mass and weight|
a novel and a short story|compilers and interpreters|stalactites and stalagmites|a comet and an asteroid|empathy and sympathy|RAM and a hard disk|cement and concrete|a simile and a metaphor|
jam and jelly|a moth and a butterfly|fission and fusion|arteries and veins|a republic and a monarchy|a solar and a lunar eclipse|TCP and UDP|baking soda and baking powder""".replace("\n", "").split("|")
GOALS = """learn to play the guitar|save money each month|sleep better|run my first ten kilometres|read more books|make new friends in a new city|write a good covering letter|grow tomatoes on a balcony|
speak in front of people without fear|learn Spanish in a year|cook for one person|keep my desk tidy|start a small garden|train a puppy|repair a bicycle tyre|plan a wedding on a small budget|
stop biting my nails|choose a laptop|prepare for a marathon|write a diary|paint a room|remember names|spend less time on my phone|bake bread|learn to swim as an adult|drink less coffee|
ask for a raise|teach my child to read|organise old photographs|move to another country|get up early|make my home use less energy""".replace("\n", "").split("|")
PEOPLE = """a retired sailor|a young violinist|a nervous apprentice|two brothers who have not spoken for years|a night nurse|a lonely astronaut|a postman in the mountains|a girl who collects maps|
an old librarian|a baker who cannot taste|a shepherd|a taxi driver|an honest thief|a robot gardener|a queen without a kingdom|the last train conductor|a boy and his grandfather|a painter who is going blind|
a talking crow|a beekeeper|a widow and her dog|a carpenter|a magician's assistant|three friends from school|a river pilot|a tired teacher|a cook on a ship|a glassblower""".replace("\n", "").split("|")
PLACES = """in a village by the sea|during the first snow of the year|on a night train|in an abandoned theatre|at the edge of a desert|in a city where it never stops raining|on a small island|in a quiet museum after hours|
at a crossroads inn|in the last house of the street|on the day of the harvest festival|in a greenhouse|under a bridge|in a market at noon|on the roof of a hotel|in a mountain hut during a storm|
in a town without clocks|at an airport at midnight|in a forest at dawn|at the bottom of a dry well|on a ferry|in a hospital garden""".replace("\n", "").split("|")
TURNS = """who finds a door that was not there before|who receives a letter meant for somebody else|who must keep a promise|who learns to forgive|who gets lost and does not want to be found|who loses something small and searches for it|
who has one day to say goodbye|who hears a song from childhood|who discovers a secret garden|who tells one lie too many|who waits for a ship|who repairs an old machine|who meets a stranger with the same name|
who decides to stay|who finds an unfinished painting""".replace("\n", "").split("|")
THINGS = """an old kitchen|a summer thunderstorm|a crowded bus|a lake in winter|a busy harbour|the smell of a bookshop|a street after rain|a field of sunflowers|a city seen from a tower|a village wedding|
a sleeping house|a railway journey|a night sky far from any town|a workshop full of tools|the first day of spring|a long walk home|a garden at dusk|an empty beach|a kitchen table at breakfast|a waterfall""".replace("\n", "").split("|")
TASKS = """reverses a string|counts the words in a text|finds all prime numbers up to n|removes duplicates from a list|checks whether two words are anagrams|computes the factorial of a number|sorts a list of names by length|
converts Roman numerals to integers|merges two sorted lists|finds the longest common prefix of strings|flattens a nested list|computes the n-th Fibonacci number|validates an email address|rotates a matrix by 90 degrees|
parses a date such as 2024-05-17|counts vowels|generates a random password|finds the second largest number in a list|implements a stack|implements a queue with two stacks|reads a CSV file and prints its columns|
converts temperatures|computes the greatest common divisor|encodes text with a Caesar cipher|finds pairs with a given sum|draws a triangle of stars|simulates rolling two dice|checks balanced brackets|
computes a moving average|converts a number to binary|splits a list into chunks|transposes a matrix|finds the most common letter|downloads nothing but prints a progress bar|implements binary search|
computes compound interest|plays rock, paper, scissors|counts lines in a file|capitalises every word|keeps a to-do list""".replace("\n", "").split("|")
LANGUAGES = ["Python", "Python", "Python", "JavaScript", "C", "Java", "C++", "Go", "Rust", "Ruby", "TypeScript", "bash", "PHP"]
CONCEPTS = """recursion|pointers|list comprehensions|exceptions|classes and objects|hash tables|regular expressions|unit tests|closures|generators|threads|big O notation|linked lists|decorators|SQL joins|
version control with git|dynamic programming|a REST API|environment variables|floating-point rounding|inheritance|garbage collection|binary numbers|quicksort|breadth-first search|an index in a database""".replace("\n", "").split("|")
LISTS = """healthy breakfasts|books every student should read|ways to reduce stress|games for a rainy day|questions for a job interview|things to see in Rome|exercises without equipment|gifts for a teacher|
signs of a good friendship|tools that every home needs|ways to reuse glass jars|famous scientists and what they found|vegetables for a small garden|tips for public speaking|habits of good writers|
spices and what they go with|rivers of Europe|mistakes that beginners make in photography|questions to ask before buying a house|ideas for a school science project|small acts of kindness|
names for a bakery|board games for two|reasons to learn a second language|common knots and their uses|things to pack for a weekend|cheap dinners|ways to start a conversation|wild animals of Africa|
rules for a shared kitchen|films about friendship|uses for vinegar|features of a good chair|safety rules for a laboratory|ways to make a room brighter|themes for a photo album""".replace("\n", "").split("|")
STEPS = """make pancakes|change a light bulb safely|write a research paper|plan a budget|plant a tree|set up a home office|brew green tea|clean a window|wrap a present|tie a tie|start a book club|
prepare a presentation|iron a shirt|pack a suitcase|build a bird house|make a paper plane|sharpen a knife|plan a vegetable garden|backup a computer|organise a small party|wash a woollen sweater|bake an apple pie""".replace("\n", "").split("|")

# (share, templates, words): {0} is from the first list, {1} from the second ...
KINDS = {
    "chat": (0.3, ["What is {0}?", "Explain {0} to a ten-year-old.", "Why is {0} important?", "Tell me about the history of {0}.", "How does {0} affect everyday life?", "What are common misunderstandings about {0}?",
                   "I am preparing a short talk about {0}. What should I say?", "Give me a summary of what is known about {0}.", "What would the world be like without {0}?",
                   "How did people first learn about {0}?", "Can you help me understand {0}?", "What are three surprising facts about {0}?"], [TOPICS]),
    "differ": (0.04, ["What is the difference between {0}?", "Explain the difference between {0} with examples.", "How can I tell apart {0}?"], [PAIRS]),
    "advice": (0.08, ["How can I {0}?", "I want to {0}. Where should I begin?", "Give me advice: I would like to {0}, but I have little time.", "What are the best ways to {0}?", "I have tried to {0} and failed. What now?",
                      "Make a plan for me to {0} within three months."], [GOALS]),
    "prose": (0.17, ["Write a short story about {0} {1} {2}.", "Write a story {2} about {0} {1}.", "Begin a novel about {0} {1}, set {2}.", "Write a scene with dialogue: {0} {1}, {2}.",
                     "Tell a tale for children about {0} {1}.", "Write a poem about {0} {2}."], [PEOPLE, TURNS, PLACES]),
    "describe": (0.05, ["Describe {0}.", "Write a paragraph about {0}, {1}.", "Write a letter to a friend that describes {0}.", "Describe {0} as seen by a child.", "Write a poem about {0}."], [THINGS, PLACES]),
    "code": (0.13, ["Write a {1} function that {0}.", "Write a {1} program that {0}, and explain how it works.", "Show me {1} code that {0}, with comments.", "In {1}, how do I write something that {0}?",
                    "Write a {1} function that {0}, and tests for it.", "Write clean {1} code that {0}. Then show an example of its use."], [TASKS, LANGUAGES]),
    "concept": (0.05, ["Explain {0} with an example in {1}.", "What is {0} and when should I use it?", "Give a short lesson on {0} for somebody who knows some {1}."], [CONCEPTS, LANGUAGES]),
    "lists": (0.1, ["List {1} {0}.", "Give me {1} {0}, each with one sentence.", "Make a numbered list of {0}.", "Make a table of {1} {0}.", "What are some {0}? Answer as a list."],
              [LISTS, ["five", "six", "seven", "eight", "ten", "twelve"]]),
    "steps": (0.05, ["What are the steps to {0}?", "Explain step by step how to {0}.", "Write instructions: how to {0}.", "How do I {0}? Number the steps."], [STEPS]),
}


def words_of(text):
    return set(re.findall(r"[a-z]{3,}", text.lower())) - {"the", "and", "for", "with", "that", "how", "what", "write", "list", "each", "give", "who", "from"}


def chat(prompt, system=False):
    head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n" if system else ""
    return f"{head}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path and path.exists() else []


def from_templates(rng):
    kind = rng.choices(list(KINDS), [k[0] for k in KINDS.values()])[0]
    _, templates, lists = KINDS[kind]
    return rng.choice(templates).format(*(rng.choice(words) for words in lists))


def from_words(rng, nouns):
    noun = rng.choice(nouns)
    return rng.choice(["What is meant by \"{}\"?", "Define \"{}\" and use it in a sentence.", "Explain the word \"{}\".", "Write a few sentences about {}.", "Tell me something about {}."]).format(noun)


def from_code(rng, functions):
    f = rng.choice(functions)
    return rng.choice(["Complete this Python function:\n\n{}", "What does this Python function do?\n\n{}", "Write the body of this function and explain it:\n\n{}"]).format(f)


def from_prose(rng, paragraphs):
    words = rng.choice(paragraphs).split()
    return " ".join(words[:rng.randint(8, 40)])


def sources(folder):
    """Makers of prompts with their shares, and whether they are asked in the chat format."""
    out = [(0.7, from_templates, (), True)]
    if not folder:
        return out
    nouns = [m.group(1) for row in read_jsonl(folder / "words.jsonl") for m in re.finditer(r"^([a-z][a-z ]{2,24}): ", row["text"], re.M)]
    functions = [m.group(0) for row in read_jsonl(folder / "code.jsonl") for m in re.finditer(r'^def \w+\([^\n]*\):\n    """[^"\n]{10,120}"""', row["text"], re.M)]
    paragraphs = [p.strip() for row in read_jsonl(folder / "prose.jsonl") for p in row["text"].split("\n\n") if len(p.split()) > 60]
    return out + [s for s in [(0.1, from_words, nouns, True), (0.05, from_code, functions, True), (0.15, from_prose, paragraphs, False)] if s[2]]


def make(n, folder, never, seed=1):
    rng, makers, seen, out, tries = random.Random(seed), sources(folder), set(), [], 0
    while len(out) < n:
        tries += 1
        if tries > 60 * n + 1000:
            sys.exit(f"only {len(out)} different prompts can be made of these words: ask for fewer")
        _, maker, words, is_chat = rng.choices(makers, [m[0] for m in makers])[0]
        text = maker(rng, words) if words else maker(rng)
        own = words_of(text)
        if text in seen or any(len(own & other) > 0.5 * min(len(own), len(other)) for other in never):
            continue
        seen.add(text)
        out.append(chat(text, rng.random() < 0.25) if is_chat else text)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("n", nargs="?", type=int)
    p.add_argument("--chat", type=Path)
    p.add_argument("--held", nargs=2, metavar=("M", "HELD"))
    p.add_argument("--texts", type=Path)
    p.add_argument("--never", type=Path)
    a = p.parse_args()
    if a.chat:
        for row in read_jsonl(a.chat):
            print(row["class"], escape(chat(row["prompt"])), sep="\t")
        return
    if a.n is None:
        p.error("how many prompts?")
    m, held = (int(a.held[0]), Path(a.held[1])) if a.held else (0, None)
    if a.never and not a.never.exists():
        p.error(f"--never {a.never}: there is no such file")
    prompts = make(a.n + m, a.texts, [words_of(row["prompt"]) for row in read_jsonl(a.never)])
    if held:
        held.write_text("".join(escape(t) + "\n" for t in prompts[:m]))
    sys.stdout.write("".join(escape(t) + "\n" for t in prompts[m:]))


if __name__ == "__main__":
    main()
