#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is made of include/layerskip.h, on stdout: the Python binding's declarations, the manual page of section 3, or a C program that prints the layout of every struct.

    scripts/api.py python > python/layerskip/_abi.py
    scripts/api.py manual "November 24, 2026" > layerskip.3
    scripts/api.py layout > layout.c
"""
import re
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = ROOT / "include/layerskip.h"
CTYPES = {"int": "c_int", "unsigned": "c_uint", "double": "c_double", "float": "c_float", "size_t": "c_size_t", "uint64_t": "c_uint64", "int64_t": "c_int64",
          "uint32_t": "c_uint32", "int32_t": "c_int32"}


@dataclass
class Variable:
    type: str  # "const char *"
    name: str
    length: str = ""  # of an array
    args: list = None  # of a pointer to a function that returns `type`
    comment: str = ""


@dataclass
class Item:
    kind: str  # section, text, handle, struct, enum, callback, function
    name: str
    comment: str = ""
    type: str = ""  # what a function returns
    parts: list = field(default_factory=list)  # variables of a struct or a call; (name, value, comment) of an enum


def clean(comment):
    return " ".join(re.sub(r"^/\*|\*/$", "", comment.strip()).split())


def statements(text, end=";"):
    """(statement, comment in front, comment behind on its line) of C text without preprocessor lines; a comment alone is ("", comment, "")."""
    pos, front = 0, ""
    while pos < len(text):
        if m := re.compile(r"\s+").match(text, pos):
            if front and m.group().count("\n") > 1:
                yield "", front, ""
                front = ""
            pos = m.end()
        elif m := re.compile(r"/\*.*?\*/", re.S).match(text, pos):
            front = front + "\n" + m.group() if front else m.group()
            pos = m.end()
        else:
            start, depth = pos, 0
            while pos < len(text) and (depth or text[pos] != end):
                comment = re.compile(r"/\*.*?\*/", re.S).match(text, pos)
                depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(text[pos], 0)
                pos = comment.end() if comment else pos + 1
            statement, pos = text[start:pos], pos + 1
            m = re.compile(r"[ \t]*(/\*.*?\*/)", re.S).match(text, pos)
            pos = m.end() if m else pos
            behind, tail = (m.group(1) if m else ""), re.search(r"/\*.*?\*/\s*$", statement, re.S)
            if tail and "{" not in statement:  # the last name of an enum has no comma behind it
                behind, statement = tail.group(), statement[:tail.start()]
            yield statement.strip(), front, behind
            front = ""
    if front:
        yield "", front, ""


def variables(declaration, comment=""):
    """Of one declaration, which may declare several."""
    declaration = " ".join(re.sub(r"/\*.*?\*/", " ", declaration, flags=re.S).split())
    if m := re.fullmatch(r"(.*?)\(\*(\w+)\)\((.*)\)", declaration):
        return [Variable(m.group(1).strip(), m.group(2), args=arguments(m.group(3)), comment=comment)]
    first, *others = [d.strip() for d in declaration.split(",")]
    m = re.fullmatch(r"(.*?)((?:\*|const\b|\s)*)(\w+)((?:\[\w+\])?)", first)
    base, found = m.group(1).strip(), [(m.group(2), m.group(3), m.group(4))]
    found += [re.fullmatch(r"((?:\*|const\b|\s)*)(\w+)((?:\[\w+\])?)", d).groups() for d in others]
    return [Variable(f"{base} {stars.strip()}".strip(), name, array.strip("[]"), comment=comment) for stars, name, array in found]


def arguments(text):
    depth, parts = 0, [""]
    for c in text:
        depth += {"(": 1, ")": -1}.get(c, 0)
        parts = parts + [""] if c == "," and not depth else parts[:-1] + [parts[-1] + c]
    return [] if text.strip() == "void" else [variables(p)[0] for p in parts]


def parse(text):
    text = re.sub(r'(?m)^/\* SPDX.*$|^[ \t]*#.*$|^extern "C" \{$|^\}$', "", text)
    for statement, front, behind in statements(text):
        comment = " ".join(filter(None, (clean(front), clean(behind))))
        if m := re.fullmatch(r"-+ (.*?) -+", comment):
            yield Item("section", m.group(1))
        elif not statement:
            yield Item("text", "", re.sub(r"^/\*|\*/$", "", front.strip()).strip())
        elif m := re.fullmatch(r"typedef struct (\w+) \1", statement):
            yield Item("handle", m.group(1), comment)
        elif m := re.fullmatch(r"typedef struct (\w+) \{(.*)\} \1", statement, re.S):
            yield Item("struct", m.group(1), comment, parts=[v for s, f, b in statements(m.group(2)) if s for v in variables(s, clean(b or f))])
        elif m := re.fullmatch(r"enum (\w*)\s*\{(.*)\}", statement, re.S):
            names = [(s.partition("=")[0].strip(), s.partition("=")[2].strip(), clean(b)) for s, _, b in statements(m.group(2), ",") if s]
            yield Item("enum", m.group(1), comment, parts=names)
        elif m := re.fullmatch(r"typedef (.*?)\(\*(\w+)\)\((.*)\)", statement, re.S):
            yield Item("callback", m.group(2), comment, m.group(1).strip(), arguments(" ".join(m.group(3).split())))
        elif m := re.fullmatch(r"LSK_API (.*?)(\w+)\((.*)\)", statement, re.S):
            yield Item("function", m.group(2), comment, m.group(1).strip(), arguments(" ".join(m.group(3).split())))
        else:
            sys.exit(f"{HEADER}: not understood: {statement[:80]}")


# ---- Python ----

def ctype(v, known, beside=()):
    """A variable's type for ctypes. Text that has its length beside it may hold zeros: an address."""
    words = v.type.replace("const", " ").split()
    base, stars = [w for w in words if set(w) != {"*"}][-1], v.type.count("*")
    if v.args is not None:
        found = call(v.type, v.args, known)
    elif base == "char" and stars:
        counted = f"n_{v.name}" in beside or any(b.type == "size_t *" for b in beside if isinstance(b, Variable))
        found = "POINTER(c_char_p)" if stars > 1 else "c_void_p" if counted else "c_char_p"
    elif base == "void" or known.get(base) == "handle":
        found = "POINTER(c_void_p)" if stars > 1 else "c_void_p" if stars else "None"
    else:
        found = CTYPES.get(base) or ("c_char" if base == "char" else "c_int" if base not in known or known[base] == "enum" else base)
        found = f"POINTER({found})" if stars else found
    return f"{found} * {v.length}" if v.length else found


def call(returns, args, known):
    return f"CFUNCTYPE({', '.join([ctype(Variable(returns, ''), known)] + [ctype(a, known) for a in args])})"


HINTS = {"c_char_p": "str", "c_char": "str", "c_float": "float", "c_double": "float", "c_void_p": "bytes"}
SHOWN = {"lsk_model_options": "ModelOptions", "lsk_generate_options": "GenerateOptions", "lsk_chat_options": "ChatOptions", "lsk_synth_options": "SynthOptions",
         "lsk_model_info": "ModelInfo", "lsk_memory": "Memory", "lsk_stats": "Stats", "lsk_status": "Status", "lsk_finish": "Finish"}


def hint(kind, counted):
    """A field as a Python program sees it: "c_int * 16", "POINTER(c_char_p)" and so on."""
    inner = re.sub(r"^POINTER\((.*)\)$|^(.*) \* \w+$", lambda m: m.group(1) or m.group(2), kind)
    one = SHOWN.get(inner) or ("tuple[float, ...]" if inner.startswith("lsk_") else HINTS.get(inner, "int"))
    return one if inner == kind or inner == "c_char" or (one[:5] == "tuple" and not counted) else f"Sequence[{one}]"


def python_struct(i, known):
    names = [v.name for v in i.parts]
    kinds = {v.name: ctype(v, known, names) for v in i.parts}
    yield "\n".join([f"class {i.name}(Structure):", "    _fields_ = ["] + [f'        ("{n}", {k}),' for n, k in kinds.items()] + ["    ]"])
    if i.name in SHOWN:
        base = "TypedDict, total=False" if i.name.endswith("_options") else "NamedTuple"
        plain = [n for n in names if not (n == "reserved" or n.endswith("_ud") or known.get(kinds[n]) in ("callback", "enum") or (n[:2] == "n_" and n[2:] in names))]
        yield "\n".join([f"class {SHOWN[i.name]}({base}):"] + [f"    {n}: {hint(kinds[n], 'n_' + n in names)}" for n in plain])


def python_enum(i):
    name, value = SHOWN.get(i.name), -1
    lines = [f"class {name}(IntEnum):"] if name else []
    for constant, given, _ in i.parts:
        value = int(given) if given else value + 1
        lines.append(f"    {re.sub('^LSK_(FINISH_)?', '', constant)} = {value}" if name else f"{constant} = {value}")
    return "\n".join(lines)


def python(items):
    known = {i.name: i.kind for i in items}
    blocks, functions = [], []
    for i in items:
        if i.kind == "enum":
            blocks.append(python_enum(i))
        elif i.kind == "struct":
            blocks += python_struct(i, known)
        elif i.kind == "callback":
            blocks.append(f"{i.name} = {call(i.type, i.parts, known)}")
        elif i.kind == "function":
            result = ctype(Variable(i.type, ""), known, i.parts)
            functions.append(f'    "{i.name}": ({result}, [{", ".join(ctype(a, known) for a in i.parts)}]),')
    print('# SPDX-License-Identifier: Apache-2.0\n"""The C interface. Made by `scripts/api.py python` from include/layerskip.h: change that."""\nfrom __future__ import annotations\n')
    print("from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint, c_uint32, c_uint64, c_void_p\n"
          "from enum import IntEnum\nfrom typing import NamedTuple, Sequence, TypedDict\n")
    version = re.search(r"project\(layerskip VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    print(f'VERSION = "{version}"  # of the header\n')
    print("\n\n\n".join(blocks + ["# name: (result, arguments)\nFUNCTIONS = {\n" + "\n".join(functions) + "\n}"]))


def layout(items):
    """A C program: "struct size", then "struct.field offset", a line each."""
    print('#include <stddef.h>\n#include <stdio.h>\n#include "layerskip.h"\nint main(void)\n{')
    for i in items:
        if i.kind == "struct":
            print(f'    printf("{i.name} %zu\\n", sizeof({i.name}));')
            for v in i.parts:
                print(f'    printf("{i.name}.{v.name} %zu\\n", offsetof({i.name}, {v.name}));')
    print("    return 0;\n}")


# ---- manual ----

def escaped(text):
    for plain, escape in (("\\", "\\e"), ("-", "\\-"), ("`", "\\(ga"), ("'", "\\(aq"), ("~", "\\(ti"), ("^", "\\(ha")):
        text = text.replace(plain, escape)
    return text


def show_text(text):
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
        if number:
            print(".Pp")
        for sentence in re.split(r"(?<=[.?!]) (?=\S)", " ".join(paragraph.split())):
            print("\\&" + escaped(sentence))


def shown(v):
    if v.args is not None:
        return f"{v.type} (*{v.name})({', '.join(map(shown, v.args))})"
    return f"{v.type}{'' if v.type.endswith('*') else ' '}{v.name}{f'[{v.length}]' if v.length else ''}"


def show_item(i):
    if i.kind in ("function", "callback"):
        head = f"{i.name}(" if i.kind == "function" else f"typedef {i.type} (*{i.name})("
        head = (f"{i.type}{'' if i.type.endswith('*') else ' '}" if i.kind == "function" else "") + head
        lines = textwrap.wrap(head + (", ".join(map(shown, i.parts)) or "void") + ");", 76, subsequent_indent="    ", break_long_words=False)
        print(".Bd -literal -compact\n" + "\n".join(map(escaped, lines)) + "\n.Ed")
    else:
        keyword = "enum" if i.kind == "enum" else "struct"
        print(f".Vt {keyword}{' ' * bool(i.name)}{i.name}")
    if i.comment:
        print(".Pp")
        show_text(i.comment)
    if i.kind in ("struct", "enum"):
        print(".Bl -tag -width Ds")
        for part in i.parts:
            name, comment = (shown(part), part.comment) if isinstance(part, Variable) else (f"{part[0]}{part[1] and ' = ' + part[1]}", part[2])
            print(f'.It Va "\\&{escaped(name)}"')
            if comment:
                show_text(comment)
        print(".El")


def manual(items, date):
    print(f'.\\" SPDX-License-Identifier: Apache-2.0\n.Dd {date}\n.Dt LAYERSKIP 3\n.Os\n.Sh NAME\n.Nm layerskip\n.Nd the library behind layerskip, from its header')
    print(".Sh LIBRARY\nliblayerskip (\\-llayerskip); pkg-config and CMake know it as\n.Sy layerskip .\n.Sh SYNOPSIS\n.In layerskip.h\n.Sh DESCRIPTION")
    after = "section"
    for i in items:
        if i.kind == "section":
            print(f'.Ss "{escaped(i.name)}"')
        elif after != "section":
            print(".Pp")
        if i.kind == "text":
            show_text(i.comment)
        elif i.kind != "section":
            show_item(i)
        after = i.kind
    print(".Sh SEE ALSO\n.Xr layerskip 1 ,\n.Xr layerskip 7")


def main():
    items = list(parse(HEADER.read_text()))
    outputs = {"python": python, "layout": layout, "manual": manual}
    if len(sys.argv) < 2 or sys.argv[1] not in outputs or len(sys.argv) != 2 + (sys.argv[1] == "manual"):
        sys.exit(__doc__)
    outputs[sys.argv[1]](items, *sys.argv[2:])


if __name__ == "__main__":
    main()
