#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our templates against jinja2, set up as transformers sets it up: pieces of the language, and the chat templates of published models on many conversations.

Use: jinja_conformance.py PATH/TO/test_jinja [TEMPLATE_FILE ...]
Exit status 0: all texts equal; 1: a difference, printed; 77: jinja2 or the package with the templates cannot be had."""
import copy
import datetime
import functools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import fetch

NOW = datetime.datetime(2026, 11, 23, 14, 5, 9, tzinfo=datetime.timezone.utc)
FAMILIES = ("cohere cohere2 deepseek_r1_distill deepseekv3 gemma gemma3 gemma4 glm4moe gptoss idefics3 lfm2 llama3 llama3_1 llama3_2 llava_next nemotron_3_nano "
            "phi3 phi3_5 qwen2_5 qwen2_5_vl qwen3 qwen3_5_think qwen3_instruct_2507 qwen3_vl smolvlm llama3_training qwen3_training").split()

# Each is a template by itself; LISTS below are its variables.
PIECES = r"""
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 1.5 + 1 }} {{ -(3) }} {{ +4 }}
{{ 0.1 }} {{ 1e3 }} {{ 1.0 }} {{ 100000.0 * 10 }} {{ 1e16 }} {{ 1e15 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1.5e300 }} {{ 1/3 }} {{ 123456.789 }} {{ 1_000 }} {{ -0.5 }} {{ 5e-324 }}
{{ 'a' ~ 1 ~ none ~ true }} {{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ [1] + [2] }} {{ 'a' 'b' "c" }} {{ [1] ~ [2] }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' == none }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1.0} }} {{ 1 != 2 }} {{ 2 >= 2 }} {{ (1,) == [1] }}
{{ 'b' in 'abc' }} {{ 'x' not in 'abc' }} {{ 1 in [1, 2] }} {{ 'a' in d }} {{ 'zz' in d }} {{ 1 in nothing }} {{ '' in '' }}
{{ not true }} {{ not false and true }} {{ not (true and false) }} {{ true or false and false }} {{ 1 and 2 }} {{ 0 or 'x' }} {{ none or [] }} {{ not not 1 }}
{{ 'yes' if true else 'no' }} {{ 'yes' if false }} {{ 'a' if false else 'b' if false else 'c' }}|{{ (1 if true) + 1 }}
{{ nothing }}|{{ d.nothing }}|{{ d['nothing'] }}|{{ l[99] }}|{{ none.x }}|{{ 'abc'.x }}|{{ 5 .x }}
{{ nothing.x }}
{{ nothing + 1 }}
{{ nothing() }}
{{ 1 + 'a' }}
{{ 1 < 'a' }}
{{ 1 // 0 }}
{{ nothing|upper }}|{{ nothing|length }}|{{ nothing|default('x') }}|{{ ''|default('x') }}|{{ ''|default('x', true) }}|{{ none|default('x') }}|{{ nothing|trim }}|{{ d.a|d(5) }}|{{ nothing|default(default_value='k') }}
{{ none }} {{ None }} {{ true }} {{ True }} {{ false }} {{ [1, 'a', none, true, 1.5] }} {{ {'a': [1], "b'c": 'd"e'} }} {{ (1, 2) }} {{ (1,) }} {{ () }} {{ ['it\'s', 'a"b', "both'\""] }} {{ ['\n\t\\é\x01'] }}
{{ 'abc'[0] }}{{ 'abc'[-1] }}{{ 'abc'[5] }}|{{ 'hello'[1:3] }}|{{ 'hello'[:-1] }}|{{ 'hello'[::-1] }}|{{ 'hello'[::2] }}|{{ 'hello'[-3:] }}|{{ 'hello'[10:] }}|{{ 'äöüß€'[1:4] }}|{{ 'äöü'[1] }}|{{ 'hello'[3:1] }}
{{ l[1:] }} {{ l[::-1] }} {{ l[:2] }} {{ l[-2:] }} {{ l[4:0:-2] }} {{ l[:] }} {{ l[none:2] }} {{ l[100:] }} {{ l[-100:2] }} {{ l[::3] }}
{{ d.a }} {{ d['b'] }} {{ d['a'] }} {{ d.get('a') }} {{ d.get('q') }} {{ d.get('q', 7) }} {{ d.keys()|list }} {{ d.values()|list }} {{ d.items()|list }} {{ d|items|list }} {{ d|length }} {{ d|list }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for k, v in d|items %}{{ k ~ v }}{% endfor %}{% for k, v in d|dictsort %}{{ k }}{% endfor %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.depth }} {% endfor %}
{% for x in l if x > 2 %}{{ x }}{{ loop.index }}{{ loop.length }}{% else %}none{% endfor %}{% for x in [] %}x{% else %}empty{% endfor %}{% for x in nothing %}x{% else %}undefined{% endfor %}{% for c in 'aé€' %}<{{ c }}>{% endfor %}
{% for a in l %}{% for b in l %}{% if b == 3 %}{% break %}{% endif %}{{ a }}{{ b }} {% endfor %}{% if a == 2 %}{% continue %}{% endif %}{{ loop.index }}|{% endfor %}
{% for (a, b) in [(1, 2), (3, 4)] %}{{ a + b }} {% endfor %}{% for a, b in [[1, 2]] %}{{ a }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}{% set ns = namespace(n=0, found=false) %}{% for i in l %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ ns.found }}{{ ns.nothing }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}{% set x %}  block {{ a }} {% endset %}[{{ x }}]{% set y | upper | trim %} abc {% endset %}[{{ y }}]{% if true %}{% set z = 5 %}{% endif %}{{ z }}
{% set d.a = 1 %}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c='y') }}|{{ m(b=5, a=4) }}|{{ m() }}|{{ m(1)|length }}
{% set g = 'outer' %}{% macro m() %}{{ g }}{% set g2 = 'in' %}{{ g2 }}{% endmacro %}{{ m() }}{{ g2 }}{% for i in [1] %}{{ m() }}{% endfor %}{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
{{ x is defined }} {{ d is defined }} {{ none is none }} {{ 'a' is string }} {{ 1 is string }} {{ d is mapping }} {{ l is iterable }} {{ 5 is iterable }} {{ l is sequence }} {{ 'a' is iterable }} {{ 1 is number }} {{ 1.0 is float }} {{ 1 is integer }} {{ true is boolean }} {{ true is true }} {{ 0 is false }} {{ false is false }} {{ true is number }} {{ true is integer }} {{ x is undefined }} {{ 4 is even }} {{ 3 is odd }} {{ 6 is divisibleby 3 }} {{ 6 is divisibleby(4) }} {{ 1 is eq 1 }} {{ 1 is ne 1 }} {{ 'a' is in 'abc' }} {{ 1 is not defined }} {{ d is not mapping }} {{ 'a' is lower }} {{ range is callable }} {{ x is defined and x is string }} {{ not d is mapping }} {{ 3 is gt 2 }} {{ 3 is sameas 3 }}
{{ '  a b '|trim }}|{{ 'xxaxx'|trim('x') }}|{{ 'abc'|upper }}|{{ 'ABC'|lower }}|{{ 'hello world'|capitalize }}|{{ 'hello world'|title }}|{{ 'abc'|first }}|{{ 'abc'|last }}|{{ l|first }}|{{ l|last }}|{{ []|first }}|{{ 'abc'|length }}|{{ l|count }}|{{ 'äö'|length }}
{{ l|join }} {{ l|join(', ') }} {{ ['a', none, 1]|join('-') }} {{ ms|join(',', attribute='role') }} {{ 'abc'|join('.') }} {{ l|map('string')|join('+') }} {{ ms|map(attribute='role')|list }} {{ ms|map(attribute='nope', default='?')|list }} {{ ['a', 'b']|map('upper')|join }}
{{ ms|selectattr('role', 'equalto', 'user')|list|length }} {{ ms|selectattr('role', 'eq', 'user')|map(attribute='content')|list }} {{ ms|rejectattr('role', 'in', ['user'])|map(attribute='role')|list }} {{ ms|selectattr('x')|list }} {{ ms|selectattr('x', 'defined')|list }} {{ l|select('odd')|list }} {{ l|reject('odd')|list }} {{ [0, 1, '']|select|list }} {{ l|select('greaterthan', 2)|list }}
{{ l|select('gt', 2)|list }} {{ l|reverse|list }} {{ 'abc'|reverse }} {{ [3, 1, 2]|sort }} {{ ['b', 'A', 'c']|sort }} {{ ['b', 'A']|sort(case_sensitive=true) }} {{ [3, 1]|sort(reverse=true) }} {{ ms|sort(attribute='role')|map(attribute='role')|list }} {{ [1, 2, 1]|unique|list }} {{ l|min }} {{ l|max }} {{ l|sum }} {{ 'cba'|sort }}
{{ '5'|int }} {{ 'x'|int }} {{ 'x'|int(9) }} {{ 3.9|int }} {{ '3.9'|int }} {{ '2.5'|float }} {{ 'x'|float }} {{ 3|float }} {{ -3|abs }} {{ 2.567|round(2) }} {{ 2.5|round }} {{ 3|string }} {{ d|string }} {{ true|int }}
{{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ ' a  b  c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }}
{{ 'abc'.split('') }}
{{ 'a\nb\r\nc\n'.splitlines() }} {{ 'abc'.startswith('ab') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc') }} {{ 'abc'.find('c') }} {{ 'abc'.find('x') }} {{ 'äbäb'.rfind('b') }} {{ 'abab'.count('ab') }} {{ '12'.isdigit() }} {{ ''.isdigit() }} {{ 'ab'.isalpha() }} {{ 'abc'.replace('b', 'X') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aaa'|replace('a', 'b', 1) }} {{ '-'.join(['a', 'b']) }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('bc') }}
{{ '  a '.strip() }}|{{ '  a '.lstrip() }}|{{ '  a '.rstrip() }}|{{ 'xyaxy'.strip('yx') }}|{{ '\n\na\n'.lstrip('\n') }}|{{ ' ééa '.strip(' é') }}|{{ '  a　'.strip() }}|{{ 'ABC'.lower() }}{{ 'abc'.upper() }}{{ 'abc def'.title() }}{{ 'aBC'.capitalize() }}
{{ d|tojson }} {{ ms|tojson }} {{ deep|tojson }} {{ deep|tojson(indent=2) }} {{ deep|tojson(indent=4) }} {{ 'é"\\\n\t/</'|tojson }} {{ deep|tojson(sort_keys=true) }} {{ deep|tojson(separators=(',', ':')) }} {{ 'é€😀'|tojson(ensure_ascii=true) }} {{ [1.0, 1e20, none, true]|tojson }} {{ {}|tojson }} {{ []|tojson(indent=2) }} {{ '\x7f\x01'|tojson }}
{{ nothing|tojson }}
{{ {'a.b': 1}['a.b'] }} {{ {'a': {'b': 1}}['a.b'] }} {{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }} {{ range(9223372036854775107, 9223372036854775807)|length }}
{{ range(3)|list }} {{ range(1, 4)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }} {{ dict(a=1, b=2) }} {% for i in range(2) %}{{ i }}{% endfor %}
{{ raise_exception('no way') }}
{{ strftime_now('%d %b %Y') }} {{ strftime_now("%Y-%m-%d %H:%M") }}
{{ 'a\tb\x41\u00e9\U0001F600\101\q\'\"' }} {{ "a'b" }} {{ 'a"b' }}
{% raw %}{{ not a tag }}{% not either %}{% endraw %}|{% raw -%}   x   {%- endraw %}|
{# a comment #}x{#- another -#}   y
{%- if true -%}   a   {%- endif -%}   b   {{- ' c ' -}}   d
{% if nothing %}a{% elif d %}b{% else %}c{% endif %}{% if not d %}a{% elif false %}b{% elif true %}c{% endif %}{% if [] %}a{% else %}{% if true %}b{% endif %}{% endif %}
{% filter upper %}abc {{ 'd' }}{% endfilter %}{% generation %}g{% endgeneration %}{% filter replace('a', 'b')|trim %} aaa {% endfilter %}
{{ 'a' | upper | lower ~ 'B' }} {{ ('a' ~ 'b') | upper }} {{ 'a' ~ 'b' | upper }} {{ -1 | abs }} {{ 1 + 2 | string | length }} {{ l[0] | string + 'x' }}
{{ {'a': {'b': [1, {'c': 2}]}}.a.b[1].c }} {{ l.0 }} {{ [[1, 2], [3]][0][1] }} {{ (l)[0] }} {{ {'items': 5}['items'] }} {{ 'x'.upper().lower().upper() }}
{{ 'text'|indent }} {{ 'a\nb\n\nc'|indent(2) }} {{ 'a\nb'|indent(2, true) }} {{ 'a\nb'|indent(width=3, first=true) }}
{% unknown %}
{{ 'a'|unknown }}
{{ 1 is unknown }}
{{ 'unterminated }}
{% if true %}
{{ l[ }}
{{ 'abc'.upper(1) }}
{{ d.update({'x': 1}) }}
{{ l.append(1) }}
{{ ''.__class__ }}
{{ 99999 ** 3 }}
"""
SHAPED = ["a\n  {% if true %}\n  b\n  {% endif %}\n  c\n", "{% if true %}\n\n x {% endif %} \n", "  {{ 'x' }}  \n  {%- if true %} y {% endif -%}  \n z\n\n", "a {%+ if true %} b {% endif +%}\n c",
          "\n{% for x in l %}\n  {{ x }}\n{% endfor %}\nend", "x\r\ny\rz\r\n", "{# c #}\n  {# d #}  \n e", "   {% set x = 1 %}   {% set y = 2 %}\n{{ x }}\n   {{- y }}\n", "", "\n", "plain {text} { {",
          "{{ 'a' }}\n\n{{ 'b' }}\n", "  \t{%- set a = 1 %}\n\t  {% set b = 1 -%}\n\n   z  {%- if 1 %}\n1{% endif %}", "{% raw %}\n a {% endraw %}\nb", "{{\n  'multi'\n  ~ 'line'\n}}", "a\n\n   {#- x -#}\n\n b", "{#\n two lines #}\n x"]
VARIABLES = {"l": [1, 2, 3, 4, 5], "d": {"b": 2, "a": 1}, "ms": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "x": 1}],
             "deep": {"z": [1, {"é": "ü\n"}], "a": {"b": None, "c": [True, 1.5]}}}

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a <place> & \"time\"", "parameters": {
    "type": "object", "properties": {"place": {"type": "string", "description": "é where"}, "days": {"type": "integer", "enum": [1, 2]}}, "required": ["place"]},
    "return": {"type": "string"}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Köln", "days": 2}}}]}


def turns(*texts, system=None):
    head = [{"role": "system", "content": system}] if system is not None else []
    return head + [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


def parts(text):
    return [{"type": "text", "text": text}]


CONVERSATIONS = [
    turns("Hello"), turns("Hello", system="Be brief."), turns("a", "b", "c"), turns("  spaced  ", "\n\nlines\n\n", "x", system="  sys\n"),
    turns("what is <|im_end|> and </s> and [/INST]?", "it's \"quoted\" 'text' \\ {{ x }} {% y %}", "äöü 😀 日本"), turns("q", "<think>\nhidden\n</think>\n\nshown", "next"), turns("q", "<think>no end"), turns("", "", ""),
    turns("one", system=""), turns("u", "a"), [{"role": "assistant", "content": "first"}], [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], [],
    [{"role": "user", "content": parts("part one")}, {"role": "assistant", "content": parts("part two")}, {"role": "user", "content": parts("x") + [{"type": "image"}]}],
    turns("weather?") + [CALL, {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "{\"t\": 21}"}, {"role": "assistant", "content": "21 degrees"}, {"role": "user", "content": "thanks"}],
    turns("weather?", system="s") + [copy.deepcopy(CALL) | {"content": None}], turns("q") + [{"role": "assistant", "reasoning_content": "because", "content": "answer"}, {"role": "user", "content": "more"}],
    [{"role": "developer", "content": "dev"}, {"role": "user", "content": "x"}], [{"role": "stranger", "content": "x"}], [{"role": "user"}],
]


def environment():
    """jinja2 as transformers makes it."""
    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

        def _body(self, caller):
            return caller()

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    e = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    e.filters["tojson"] = tojson
    e.globals["raise_exception"] = raise_exception
    e.globals["strftime_now"] = lambda f: NOW.strftime(f)
    return e


@functools.cache
def compiled(e, template):
    return e.from_string(template)


def expected(e, template, values):
    """The text, or None where jinja2 refuses (whatever it raises is how it says so)."""
    try:
        return compiled(e, template).render(**copy.deepcopy(values))
    except Exception:
        return None


def chat_inputs():
    for messages in CONVERSATIONS:
        for generate in (True, False):
            yield {"messages": messages, "add_generation_prompt": generate, "bos_token": "<s>", "eos_token": "</s>"}
        yield {"messages": messages, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", "tools": TOOLS}
        yield {"messages": messages, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", "enable_thinking": False, "reasoning_effort": "high"}


def known_templates():
    with zipfile.ZipFile(fetch.wheel_file("trl")) as z:
        for name in FAMILIES:
            yield name, z.read(f"trl/chat_templates/{name}.jinja").decode()


def cases(files):
    for i, piece in enumerate(PIECES.strip("\n").split("\n") + SHAPED):
        yield f"piece {i}", piece, VARIABLES
    known = [(Path(f).name, Path(f).read_text()) for f in files] or known_templates()
    for name, template in known:
        for i, values in enumerate(chat_inputs()):
            yield f"{name}, conversation {i // 4}.{i % 4}", template, values


def main():
    try:
        e = environment()
        todo = list(cases(sys.argv[2:]))
    except (ImportError, fetch.Unavailable) as why:
        print(f"skipped: {why}")
        sys.exit(77)
    lines = "".join(json.dumps({"template": t, "input": v, "now": int(NOW.timestamp())}) + "\n" for _, t, v in todo)
    out = subprocess.run([sys.argv[1], "render"], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    wrong = refused = 0
    for (name, template, values), line in zip(todo, out, strict=True):
        ours, theirs = json.loads(line), expected(e, template, values)
        refused += theirs is None
        if ours.get("text") != theirs:
            wrong += 1
            if wrong <= 20:
                print(f"{name}: {template[:200]!r}\n  jinja2: {theirs!r}\n  ours:   {ours.get('text', ours.get('error'))!r}")
    print(f"{len(todo)} texts, {refused} of them refused by jinja2, {wrong} differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
