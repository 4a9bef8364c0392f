"""What arguments and results become: the table of docs/python.md."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from conftest import Dirtyd, pb

APP = "values:Values"
CONFIG = {"apps": [APP], "max_message_size": "64MiB"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("None", "null"),
        ("[True, False]", "[true,false]"),
        ("-5", "-5"),
        ("2**63 - 1", "9223372036854775807"),
        ("2**63", "9223372036854775808"),
        ("-10**40", "-1" + "0" * 40),
        ("1.0", "1.0"),
        ("[0.1, 1e16, 1e-5, 123456.75, -0.0]", "[0.1,1e+16,1e-05,123456.75,-0.0]"),
        ("[math.nan, math.inf, -math.inf]", "[null,null,null]"),
        ("'\"\\\\\\n\\x01é😀'", '"\\"\\\\\\n\\u0001é😀"'),
        ("(1, (2,))", "[1,[2]]"),
        ("Point(1, 2)", "[1,2]"),
        ("{1}", "[1]"),
        ("frozenset()", "[]"),
        ("{1: 1, 1.5: 2, True: 3, None: 4}", '{"1":3,"1.5":2,"null":4}'),
        ("{Level.HIGH: Level.HIGH}", '{"3":3}'),
        ("Color.RED", '"red"'),
        ("collections.OrderedDict(b=1, a=2)", '{"b":1,"a":2}'),
        ("collections.defaultdict(list, a=[])", '{"a":[]}'),
        ("Item('a', parts=[Item('b')])",
         '{"name":"a","data":{"$attachment":0},"parts":[{"name":"b","data":{"$attachment":1},"parts":[]}]}'),
    ],
)  # fmt: skip
def test_results_become_json(shared: Dirtyd, expression: str, expected: str) -> None:
    assert shared.end(shared.begin(APP, "make", expression)).result == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("b'ab'", b"ab"),
        ("bytearray(b'ab')", b"ab"),
        ("memoryview(b'abcd')[::2]", b"ac"),
        ("array.array('H', [1])", b"\x01\x00"),
        ("{'a': [b'', {'b': (b'x',)}]}", {"a": [b"", {"b": [b"x"]}]}),
    ],
)
def test_bytes_like_results_are_attachments(shared: Dirtyd, expression: str, expected: Any) -> None:
    assert shared.call(APP, "make", expression) == expected


@pytest.mark.parametrize(
    ("expression", "start"),
    [
        ("{'items': [0, 1, 2, {'when': datetime.datetime.now()}]}", "result.items[3].when: datetime "),
        ("datetime.date.today()", "result: date "),
        ("[datetime.timedelta(1)]", "result[0]: timedelta "),
        ("decimal.Decimal(1)", "result: Decimal "),
        ("uuid.uuid4()", "result: UUID "),
        ("pathlib.Path()", "result: PosixPath "),
        ("Plain.ONE", "result: Plain "),
        ("object", "result: type "),
        ("Item", "result: type "),
        ("{'a': [x for x in [1]].append}", "result.a: builtin_function_or_method "),
        ("{'a': {(1, 2): 3}}", "result.a: a key of type tuple ((1, 2))"),
        ("['\\udc80']", "result[0]: a str with surrogates"),
        ("{'$attachment': 0}", "result: a dict whose only key is $attachment"),
        ("[(x for x in [])]", "result[0]: generator "),
        ("range(3)", "result: range "),
        ("BadItem(a=1)", "result: RuntimeError: no items today"),
    ],
)
def test_other_results_are_refused_with_their_path(shared: Dirtyd, expression: str, start: str) -> None:
    error = shared.fails(APP, "make", expression)
    assert (error.reason, error.exception_type) == (pb().REASON_APP_ERROR, "TypeError")
    assert error.message.startswith(start)


def test_numpy_scalars_are_numbers_and_arrays_are_refused(dirtyd: Dirtyd) -> None:
    folder = dirtyd.folder / "site"
    folder.mkdir()
    (folder / "look_alike.py").write_text(
        "import ctypes\n"
        "float32 = type('numpy.float32', (), {'item': lambda self: 1.5})\n"
        "longdouble = type('numpy.longdouble', (), {'item': lambda self: self, '__float__': lambda self: 2.5})\n"
        "ndarray = type('numpy.ndarray', (), {'item': lambda self: 0, '__len__': lambda self: 2})\n"
        "class App:\n"
        "    def scalars(self): return [float32(), longdouble()]\n"
        "    def array(self): return {'v': ndarray()}\n"
    )
    dirtyd.ready({"apps": ["look_alike:App"], "chdir": str(folder)})
    assert dirtyd.call("look_alike:App", "scalars") == [1.5, 2.5]
    assert dirtyd.fails("look_alike:App", "array").message.startswith("result.v: ndarray ")


def test_depth_and_cycles_end(shared: Dirtyd) -> None:
    assert "more than 128 levels deep" in shared.fails(APP, "cycle").message
    nested = "[" * 200 + "]" * 200
    assert shared.fails(APP, "received", raw_args=nested).reason == pb().REASON_INVALID_REQUEST
    assert shared.call(APP, "make", "[" * 128 + "]" * 128)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ('[null, true, false, -0, 1.5e3, "a"]', "((None, True, False, 0, 1500.0, 'a'), {})"),
        ('[123456789012345678901234567890, -9223372036854775808]',
         "((123456789012345678901234567890, -9223372036854775808), {})"),
        (' [ { "a" : [ ] , "b":{}} ,1e-400 ] ', "(({'a': [], 'b': {}}, 0.0), {})"),
        ('["\\u00e9\\ud83d\\ude00\\n\\"\\/"]', "(('é😀\\n\"/',), {})"),
        ('[{"a":1,"a":2}]', "(({'a': 2},), {})"),
        ('[{"$attachment":0,"b":1}]', "(({'$attachment': 0, 'b': 1},), {})"),
        ('[{"$attachment":1},{"x":{"$attachment":0}}]', "((b'two', {'x': b'one'}), {})"),
    ],
)  # fmt: skip
def test_arguments_become_python(shared: Dirtyd, args: str, expected: str) -> None:
    assert shared.call(APP, "received", raw_args=args, attachments=(b"one", b"two")) == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("[1,]", "args is not JSON: invalid literal at byte 4"),
        ("[1 2]", "args is not JSON: expected ',' or ']' at byte 4"),
        ('[{"a" 1}]', "args is not JSON: expected ':' at byte 7"),
        ("[{1: 2}]", "args is not JSON: expected a key in quotes at byte 3"),
        ('["abc', "args is not JSON: unexpected end of input at byte 6"),
        ("[01]", "args is not JSON: invalid number (leading zero) at byte 3"),
        ("[1.]", "args is not JSON: invalid number at byte 4"),
        ("[-]", "args is not JSON: invalid number at byte 3"),
        ("[NaN]", "args is not JSON: invalid literal at byte 2"),
        ('["\\x"]', "args is not JSON: invalid escape at byte 4"),
        ('["\\ud800"]', "args is not JSON: a surrogate without its second half at byte 9"),
        ('["\\udc00"]', "args is not JSON: a surrogate without its first half at byte 9"),
        ('["\t"]', "args is not JSON: a control character in a string at byte 3"),
        ("[] []", "args is not JSON: more follows after the value at byte 4"),
        ("[1e999]", "args has a number that is too large for a double"),
        ('{"a":1}', "args must be a JSON array, got object"),
        ('[0,{"a":[{"$attachment":7}]}]', "args[1].a[0] references attachment 7; the call has 0"),
        ('[{"$attachment":-1}]', "args[0] has an $attachment that is not a number from 0"),
        ('[{"$attachment":"x"}]', "args[0] has an $attachment that is not a number from 0"),
    ],
)
def test_what_is_not_json_is_refused(shared: Dirtyd, args: str, message: str) -> None:
    error = shared.fails(APP, "received", raw_args=args)
    assert (error.reason, error.message) == (pb().REASON_INVALID_REQUEST, message)


def test_integers_of_any_size_arrive(shared: Dirtyd) -> None:
    assert shared.call(APP, "digits", 10**4000) == (10**4000).bit_length()


def test_random_documents_come_back(shared: Dirtyd) -> None:
    chance = random.Random(7)

    def document(depth: int) -> Any:
        kind = chance.randrange(8 if depth else 6)
        if kind == 6:
            return [document(depth - 1) for _ in range(chance.randrange(5))]
        if kind == 7:
            return {text(): document(depth - 1) for _ in range(chance.randrange(5))}
        return [None, chance.random() < 0.5, chance.randrange(-(2**70), 2**70), chance.uniform(-1e20, 1e20),
                chance.random() * 10 ** chance.randrange(-300, 300), text()][kind]  # fmt: skip

    def text() -> str:
        return "".join(chr(chance.choice([chance.randrange(128), chance.randrange(0xD7FF), 0x1F600])) for _ in range(8))

    for i in range(300):
        value = document(6)
        raw = json.dumps([value], ensure_ascii=i % 2 == 0)
        back = shared.call(APP, "received", raw_args=raw)
        assert back == repr(((value,), {}))


def test_random_results_are_what_json_dumps_gives(shared: Dirtyd) -> None:
    chance = random.Random(8)
    for _ in range(300):
        value = [[chance.uniform(-1, 1) * 10.0 ** chance.randrange(-320, 308), chance.randrange(-(2**66), 2**66)],
                 {chr(chance.randrange(1, 0xD7FF)): chance.random()}]  # fmt: skip
        assert json.loads(shared.end(shared.begin(APP, "make", repr(value))).result) == value


def test_damaged_documents_are_refused_as_json_loads_refuses_them(shared: Dirtyd) -> None:
    chance = random.Random(9)
    whole = '[{"a":[1,-2.5e3,true,null],"\\u00e9\\n":"x\\"y"},"\\ud83d\\ude00",[[]],0.5,{}]'
    refused = 0
    for _ in range(2000):
        text = list(whole)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(1, len(text))
            if chance.random() < 0.5:
                del text[at]
            else:
                text.insert(at, chance.choice('[]{},:"\\0123456789.eE+-tfnu x\x1f'))
        damaged = "".join(text)
        try:
            value = json.loads(damaged, parse_constant=_refuse)
            json.dumps(value, ensure_ascii=False).encode()  # half surrogates are no text for us
            expected = repr(((*value,), {})) if isinstance(value, list) else None
        except ValueError:
            expected = None
        if expected is None or "inf" in expected:
            assert shared.fails(APP, "received", raw_args=damaged).reason == pb().REASON_INVALID_REQUEST, damaged
            refused += 1
        else:
            assert shared.call(APP, "received", raw_args=damaged) == expected, damaged
    assert 500 < refused < 1990


def _refuse(constant: str) -> None:
    raise ValueError(constant)
