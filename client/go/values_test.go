package dirty

import (
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Data []byte `json:"data,omitempty"`
}

type outer struct {
	inner
	Name    string
	Photos  [][]byte `json:"photos"`
	ByName  map[string][]byte
	Pointer *inner
	Any     any
	When    time.Time `json:"when"`
	Skipped []byte    `json:"-"`
	private []byte
}

func TestArgumentsAreWrittenAsEncodingJSONDoes(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		value       any
		text        string
		attachments []string
	}{
		{nil, `null`, nil},
		{[]any{1, "a", nil, 0.5, true}, `[1,"a",null,0.5,true]`, nil},
		{uint64(math.MaxUint64), `18446744073709551615`, nil},
		{int64(math.MinInt64), `-9223372036854775808`, nil},
		{new(big.Int).Lsh(big.NewInt(1), 70), `1180591620717411303424`, nil},
		{[]byte("hi"), `{"$attachment":0}`, []string{"hi"}},
		{[]byte{}, `{"$attachment":0}`, []string{""}},
		{[]byte(nil), `null`, nil},
		{[3]byte{1, 2, 3}, `[1,2,3]`, nil},
		{[]any{[]byte("a"), map[string]any{"b": []byte("b")}}, `[{"$attachment":0},{"b":{"$attachment":1}}]`, []string{"a", "b"}},
		{[2][]byte{[]byte("a"), []byte("b")}, `[{"$attachment":0},{"$attachment":1}]`, []string{"a", "b"}},
		{map[string]any{"$attachment": 1, "b": 2}, `{"$attachment":1,"b":2}`, nil},
		{json.RawMessage(`{"a":1, "a":2}`), `{"a":1,"a":2}`, nil},
		{when, `"2026-01-02T03:04:05Z"`, nil},
		{outer{inner: inner{[]byte("in")}, Name: "n", Photos: [][]byte{[]byte("p")}, ByName: map[string][]byte{"k": []byte("v")},
			Pointer: &inner{[]byte("q")}, Any: []byte("any"), When: when, Skipped: []byte("s"), private: []byte("t")},
			`{"data":{"$attachment":0},"Name":"n","photos":[{"$attachment":1}],"ByName":{"k":{"$attachment":2}},` +
				`"Pointer":{"data":{"$attachment":3}},"Any":{"$attachment":4},"when":"2026-01-02T03:04:05Z"}`,
			[]string{"in", "p", "v", "q", "any"}},
		{outer{When: when}, `{"Name":"","photos":null,"ByName":null,"Pointer":null,"Any":null,"when":"2026-01-02T03:04:05Z"}`, nil},
	} {
		before := reflect.ValueOf(test.value)
		var encoder encoder
		text, err := encoder.encode("args", test.value)
		if err != nil || text != test.text {
			t.Errorf("%v is %s (%v), not %s", test.value, text, err, test.text)
		}
		var attachments []string
		for _, attachment := range encoder.attachments {
			attachments = append(attachments, string(attachment))
		}
		if !reflect.DeepEqual(attachments, test.attachments) {
			t.Errorf("%v has %q, not %q", test.value, attachments, test.attachments)
		}
		if before.IsValid() && !reflect.DeepEqual(before.Interface(), test.value) {
			t.Errorf("%v was changed", test.value)
		}
	}
}

func TestArgumentsThatCannotBeSentAreRefusedWithTheirPlace(t *testing.T) {
	type loop struct{ Next *loop }
	endless := &loop{}
	endless.Next = endless
	for _, test := range []struct {
		value any
		said  string
	}{
		{"\xff", "args: a string that is not UTF-8"},
		{[]any{map[string]any{"b": "\xed\xa0\x80"}}, "args[0].b: a string that is not UTF-8"},
		{map[string]any{"\xff": 1}, "a key that is not UTF-8"},
		{math.NaN(), "NaN"},
		{[]float64{math.Inf(1)}, "+Inf"},
		{map[string]any{"$attachment": 0}, "stands for bytes"},
		{json.RawMessage(`[{"\u0024attachment": 0}]`), "stands for bytes"},
		{struct{ C chan int }{}, "unsupported type"},
		{endless, "contains itself"},
	} {
		if _, err := new(encoder).encode("args", test.value); err == nil || !strings.Contains(err.Error(), test.said) {
			t.Errorf("%#v: %v, not %s", test.value, err, test.said)
		}
	}
}

func TestResultsArriveInAnAny(t *testing.T) {
	for _, test := range []struct {
		text  string
		value any
	}{
		{`null`, nil},
		{`9007199254740993`, int64(9007199254740993)},
		{`18446744073709551615`, uint64(math.MaxUint64)},
		{`18446744073709551616`, 18446744073709551616.0},
		{`1.0`, 1.0},
		{`[1,{"a":0.5}]`, []any{int64(1), map[string]any{"a": 0.5}}},
		{`{"a":1,"a":2}`, map[string]any{"a": int64(2)}},
		{`{"$attachment":1}`, []byte("one")},
		{`[{"$attachment":0},{"x":{"$attachment":1}},{"$attachment":0}]`,
			[]any{[]byte("zero"), map[string]any{"x": []byte("one")}, []byte("zero")}},
	} {
		var value any
		err := decode(test.text, [][]byte{[]byte("zero"), []byte("one")}, &value)
		if err != nil || !reflect.DeepEqual(value, test.value) {
			t.Errorf("%s is %#v (%v), not %#v", test.text, value, err, test.value)
		}
	}
}

func TestResultsArriveInTheirTypes(t *testing.T) {
	text := `{"data":{"$attachment":0},"Name":"n","photos":[{"$attachment":1},null],"ByName":{"k":{"$attachment":2}},` +
		`"Pointer":{"data":{"$attachment":3}},"Any":[{"$attachment":4},9007199254740993],"when":"2026-01-02T03:04:05Z"}`
	attachments := [][]byte{[]byte("in"), []byte("p"), []byte("v"), []byte("q"), []byte("any")}
	wanted := outer{inner: inner{[]byte("in")}, Name: "n", Photos: [][]byte{[]byte("p"), nil},
		ByName: map[string][]byte{"k": []byte("v")}, Pointer: &inner{[]byte("q")},
		Any: []any{[]byte("any"), int64(9007199254740993)}, When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	var value outer
	if err := decode(text, attachments, &value); err != nil || !reflect.DeepEqual(value, wanted) {
		t.Errorf("%+v (%v), not %+v", value, err, wanted)
	}
	var bytes []byte
	if err := decode(`{"$attachment":0}`, attachments, &bytes); err != nil || &bytes[0] != &attachments[0][0] {
		t.Errorf("%q (%v) is not the attachment itself", bytes, err)
	}
	for text, target := range map[string]any{`"a"`: new(int), `[1] x`: new(any), `{"$attachment":9}`: new(any), `1`: outer{}} {
		if err := decode(text, attachments, target); err == nil {
			t.Errorf("%s into a %T did not fail", text, target)
		}
	}
}
