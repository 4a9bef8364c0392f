package main

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	dirty "dirty.dev/client/go"
)

// valueOf is what a value of the vectors stands for.
func valueOf(spec any) any {
	switch spec := spec.(type) {
	case json.Number:
		return number(string(spec))
	case []any:
		values := make([]any, len(spec))
		for i, element := range spec {
			values[i] = valueOf(element)
		}
		return values
	case map[string]any:
		if len(spec) == 1 {
			for key, value := range spec {
				if special, ok := specials[key]; ok {
					return special(value)
				}
			}
		}
		values := make(map[string]any, len(spec))
		for key, member := range spec {
			values[key] = valueOf(member)
		}
		return values
	}
	return spec
}

var specials map[string]func(any) any

func init() {
	specials = map[string]func(any) any{
		"$bytes": func(value any) any {
			bytes, err := base64.StdEncoding.DecodeString(value.(string))
			if err != nil {
				panic(err)
			}
			return bytes
		},
		"$bytes_of": func(value any) any {
			pair := value.([]any)
			return []byte(strings.Repeat(string([]byte{byte(integer(pair[0]))}), integer(pair[1])))
		},
		"$text_of": func(value any) any {
			pair := value.([]any)
			return strings.Repeat(pair[0].(string), integer(pair[1]))
		},
		"$int": func(value any) any { return number(value.(string)) },
		"$levels": func(value any) any {
			pair := value.([]any)
			made := valueOf(pair[1])
			for range integer(pair[0]) {
				made = []any{made}
			}
			return made
		},
		"$utf16": func(value any) any {
			var units []uint16
			for _, unit := range value.([]any) {
				units = append(units, uint16(integer(unit)))
			}
			return fromUTF16(units)
		},
		"$double": func(value any) any {
			double, err := strconv.ParseFloat(value.(string), 64)
			if err != nil {
				panic(err)
			}
			return double
		},
	}
}

func integer(number any) int {
	value, err := strconv.Atoi(string(number.(json.Number)))
	if err != nil {
		panic(err)
	}
	return value
}

// number is an int, a uint64, a *big.Int or a float64.
func number(text string) any {
	if value, err := strconv.Atoi(text); err == nil {
		return value
	}
	if value, err := strconv.ParseUint(text, 10, 64); err == nil {
		return value
	}
	if value, ok := new(big.Int).SetString(text, 10); ok {
		return value
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return value
}

// fromUTF16 keeps an unpaired surrogate as UTF-8 would have it, if it could.
func fromUTF16(units []uint16) string {
	var text strings.Builder
	for i := 0; i < len(units); i++ {
		switch unit := rune(units[i]); {
		case utf16.IsSurrogate(unit) && i+1 < len(units) && utf16.DecodeRune(unit, rune(units[i+1])) != utf8.RuneError:
			text.WriteRune(utf16.DecodeRune(unit, rune(units[i+1])))
			i++
		case utf16.IsSurrogate(unit):
			text.Write([]byte{0xE0 | byte(unit>>12), 0x80 | byte(unit>>6&0x3F), 0x80 | byte(unit&0x3F)})
		default:
			text.WriteRune(unit)
		}
	}
	return text.String()
}

func shownResult(result *dirty.Result) any {
	value, err := result.Value()
	if err != nil {
		panic(err)
	}
	return shown(value)
}

// shown is a value that came out.
func shown(value any) any {
	switch value := value.(type) {
	case []byte:
		return map[string]any{"$bytes": base64.StdEncoding.EncodeToString(value)}
	case []any:
		for i, element := range value {
			value[i] = shown(element)
		}
	case map[string]any:
		for key, member := range value {
			value[key] = shown(member)
		}
	case float64:
		if math.IsNaN(value) || math.IsInf(value, 0) {
			panic("a number that is none")
		}
	}
	return value
}
