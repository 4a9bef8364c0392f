package dirty

import (
	"bytes"
	"crypto/rand"
	"encoding"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An object whose only key this is stands for bytes: {"$attachment": N}.
const attachmentKey = "$attachment"

// As deep as encoding/json follows pointers; dirtyd's own limit is lower.
const deepest = 1000

// Bytes take the place of others while encoding/json does its work: so many random bytes, known to this process only,
// and a number. In base64, which encoding/json writes, they are a text of always the same length and beginning.
const markRandom, markSize = 15, 24

var markBeginning = func() []byte {
	random := make([]byte, markRandom)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	return random
}()

func markOf(number int) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, markSize), append(markBeginning, 0)...), uint64(number))
}

func numberOf(mark []byte) (int, bool) {
	if len(mark) != markSize || !bytes.HasPrefix(mark, markBeginning) {
		return 0, false
	}
	return int(binary.BigEndian.Uint64(mark[markRandom+1:])), true
}

// The beginning of every mark in base64: three bytes are four digits.
var markText = base64.StdEncoding.EncodeToString(markBeginning)

const markTextSize = markSize / 3 * 4

// encoder writes the arguments of one call.
type encoder struct {
	attachments [][]byte
}

// encode is the JSON of value, whose bytes are added to the attachments.
func (e *encoder) encode(name string, value any) (string, error) {
	replaced, _, err := e.replace(reflect.ValueOf(value), 0)
	if err != nil {
		return "", inside(name, err)
	}
	var marked []byte
	if replaced.IsValid() {
		value = replaced.Interface()
	}
	if marked, err = json.Marshal(value); err != nil {
		return "", inside(name, err)
	}
	if err := checkKeys(marked); err != nil {
		return "", inside(name, err)
	}
	return unmark(string(marked)), nil
}

// unmark puts references where marks are.
func unmark(marked string) string {
	var text strings.Builder
	for {
		at := strings.Index(marked, `"`+markText)
		if at < 0 {
			break
		}
		end := at + 1 + markTextSize
		mark, _ := base64.StdEncoding.DecodeString(marked[at+1 : end])
		number, _ := numberOf(mark)
		text.WriteString(marked[:at])
		text.WriteString(`{"` + attachmentKey + `":` + strconv.Itoa(number) + `}`)
		marked = marked[end+1:]
	}
	if text.Len() == 0 {
		return marked
	}
	text.WriteString(marked)
	return text.String()
}

// checkKeys refuses data that would be taken for a reference.
func checkKeys(text []byte) error {
	if !bytes.Contains(text, []byte(attachmentKey)) && !bytes.Contains(text, []byte(`\u0024`)) {
		return nil
	}
	value, err := parse(string(text))
	if err != nil {
		return err
	}
	return checkValue(value)
}

func checkValue(value any) error {
	switch value := value.(type) {
	case map[string]any:
		if _, reserved := value[attachmentKey]; reserved && len(value) == 1 {
			return errors.New("an object whose only key is $attachment stands for bytes and cannot be data")
		}
		for _, member := range value {
			if err := checkValue(member); err != nil {
				return err
			}
		}
	case []any:
		for _, element := range value {
			if err := checkValue(element); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	marshalerType     = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

// writesItself is whether encoding/json asks the value for its text.
func writesItself(t reflect.Type) bool {
	return t.Implements(marshalerType) || t.Implements(textMarshalerType) ||
		reflect.PointerTo(t).Implements(marshalerType) || reflect.PointerTo(t).Implements(textMarshalerType)
}

// isBytes is whether encoding/json writes it in base64.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !writesItself(t.Elem())
}

// replace is the value with marks in place of its bytes, and whether there are any: if not, it is the value itself.
// Text that encoding/json would change is an error.
func (e *encoder) replace(v reflect.Value, depth int) (reflect.Value, bool, error) {
	if !v.IsValid() {
		return v, false, nil
	}
	if depth > deepest {
		return v, false, fmt.Errorf("more than %d levels deep, or contains itself", deepest)
	}
	t := v.Type()
	if writesItself(t) {
		return v, false, nil
	}
	switch t.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return v, false, errors.New("a string that is not UTF-8: pass bytes as []byte")
		}
	case reflect.Interface, reflect.Pointer:
		return e.replaceInside(v, depth)
	case reflect.Slice, reflect.Array:
		return e.replaceElements(v, depth)
	case reflect.Map:
		return e.replaceMembers(v, depth)
	case reflect.Struct:
		return e.replaceFields(v, depth)
	}
	return v, false, nil
}

func (e *encoder) replaceInside(v reflect.Value, depth int) (reflect.Value, bool, error) {
	if v.IsNil() {
		return v, false, nil
	}
	inside, changed, err := e.replace(v.Elem(), depth+1)
	if err != nil || !changed {
		return v, false, err
	}
	if v.Kind() == reflect.Interface {
		return inside, true, nil
	}
	pointer := reflect.New(v.Type().Elem())
	pointer.Elem().Set(inside)
	return pointer, true, nil
}

func (e *encoder) replaceElements(v reflect.Value, depth int) (reflect.Value, bool, error) {
	if isBytes(v.Type()) {
		if v.IsNil() {
			return v, false, nil
		}
		e.attachments = append(e.attachments, v.Bytes())
		return reflect.ValueOf(markOf(len(e.attachments) - 1)).Convert(v.Type()), true, nil
	}
	if isPlain(v.Type().Elem().Kind()) {
		return v, false, nil
	}
	var copied reflect.Value
	for i := range v.Len() {
		element, changed, err := e.replace(v.Index(i), depth+1)
		if err != nil {
			return v, false, inside(fmt.Sprintf("[%d]", i), err)
		}
		if changed && !copied.IsValid() {
			if v.Kind() == reflect.Slice {
				copied = reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			} else {
				copied = reflect.New(v.Type()).Elem()
			}
			reflect.Copy(copied, v)
		}
		if changed {
			copied.Index(i).Set(element)
		}
	}
	if copied.IsValid() {
		return copied, true, nil
	}
	return v, false, nil
}

// isPlain is whether values of this kind have nothing to look at.
func isPlain(kind reflect.Kind) bool { return kind >= reflect.Bool && kind <= reflect.Float64 }

func (e *encoder) replaceMembers(v reflect.Value, depth int) (reflect.Value, bool, error) {
	var copied reflect.Value
	for members := v.MapRange(); members.Next(); {
		key := members.Key()
		if key.Kind() == reflect.String && !utf8.ValidString(key.String()) {
			return v, false, fmt.Errorf("a key that is not UTF-8: %q", key.String())
		}
		member, changed, err := e.replace(members.Value(), depth+1)
		if err != nil {
			return v, false, inside(fmt.Sprintf(".%v", key), err)
		}
		if changed && !copied.IsValid() {
			copied = reflect.MakeMapWithSize(v.Type(), v.Len())
			for all := v.MapRange(); all.Next(); {
				copied.SetMapIndex(all.Key(), all.Value())
			}
		}
		if changed {
			copied.SetMapIndex(key, member)
		}
	}
	if copied.IsValid() {
		return copied, true, nil
	}
	return v, false, nil
}

func (e *encoder) replaceFields(v reflect.Value, depth int) (reflect.Value, bool, error) {
	var copied reflect.Value
	for _, path := range writtenFields(v.Type()) {
		field := v.Type().FieldByIndex(path)
		_, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		value := v.FieldByIndex(path)
		if isBytes(field.Type) && value.Len() == 0 && strings.Contains(options, "omitempty") {
			continue
		}
		member, changed, err := e.replace(value, depth+1)
		if err != nil {
			return v, false, inside("."+field.Name, err)
		}
		if changed && !copied.IsValid() {
			copied = reflect.New(v.Type()).Elem()
			copied.Set(v)
		}
		if changed {
			copied.FieldByIndex(path).Set(member)
		}
	}
	if copied.IsValid() {
		return copied, true, nil
	}
	return v, false, nil
}

// writtenFields is where the fields are that encoding/json writes, those of embedded structs without a name among them.
func writtenFields(t reflect.Type) (paths [][]int) {
	for i := range t.NumField() {
		field := t.Field(i)
		switch {
		case field.Tag.Get("json") == "-":
		case field.IsExported():
			paths = append(paths, []int{i})
		case field.Anonymous && field.Type.Kind() == reflect.Struct:
			for _, path := range writtenFields(field.Type) {
				paths = append(paths, append([]int{i}, path...))
			}
		}
	}
	return paths
}

// faultError is what cannot be sent, and where it is.
type faultError struct {
	path string
	err  error
}

func (f *faultError) Error() string { return f.path + ": " + f.err.Error() }
func (f *faultError) Unwrap() error { return f.err }

// inside adds a place that is around that of err.
func inside(place string, err error) error {
	if fault, ok := err.(*faultError); ok {
		return &faultError{place + fault.path, fault.err}
	}
	return &faultError{place, err}
}

// parse reads one JSON value; its numbers stay text.
func parse(text string) (any, error) {
	var value any
	if err := unmarshal(strings.NewReader(text), &value); err != nil {
		return nil, err
	}
	return value, nil
}

func unmarshal(text io.Reader, target any) error {
	decoder := json.NewDecoder(text)
	decoder.UseNumber()
	if err := decoder.Decode(target); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("more follows after the value")
	}
	return nil
}

// decode reads text into target, as json.Unmarshal does, and puts the attachments where it refers to them.
func decode(text string, attachments [][]byte, target any) error {
	pointer := reflect.ValueOf(target)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return fmt.Errorf("a result is decoded into a pointer, not into %T", target)
	}
	if len(attachments) > 0 {
		value, err := parse(text)
		if err != nil {
			return err
		}
		if value, err = mark(value, len(attachments)); err != nil {
			return err
		}
		marked, err := json.Marshal(value)
		if err != nil {
			return err
		}
		text = string(marked)
	}
	if err := unmarshal(strings.NewReader(text), target); err != nil {
		return err
	}
	settle(pointer.Elem(), attachments)
	return nil
}

// mark is the value with a mark for each reference.
func mark(value any, attachments int) (any, error) {
	var err error
	switch value := value.(type) {
	case map[string]any:
		if reference, ok := value[attachmentKey]; ok && len(value) == 1 {
			number, ok := reference.(json.Number)
			index, err := strconv.Atoi(string(number))
			if !ok || err != nil || index < 0 || index >= attachments {
				return nil, fmt.Errorf("the result refers to attachment %v and has %d", reference, attachments)
			}
			return markOf(index), nil
		}
		for key, member := range value {
			if value[key], err = mark(member, attachments); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, element := range value {
			if value[i], err = mark(element, attachments); err != nil {
				return nil, err
			}
		}
	}
	return value, nil
}

// settle puts attachments in place of marks, and numbers in place of the text of those in an any.
func settle(v reflect.Value, attachments [][]byte) {
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() || !v.CanSet() {
			return
		}
		if settled, ok := settledValue(v.Elem().Interface(), attachments); ok {
			v.Set(reflect.ValueOf(settled))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			settle(v.Elem(), attachments)
		}
	case reflect.Slice, reflect.Array:
		if isBytes(v.Type()) {
			if number, ok := numberOf(v.Bytes()); ok {
				v.SetBytes(attachments[number])
			}
			return
		}
		if isPlain(v.Type().Elem().Kind()) || v.Type().Elem().Kind() == reflect.String {
			return
		}
		for i := range v.Len() {
			settle(v.Index(i), attachments)
		}
	case reflect.Map:
		settleMembers(v, attachments)
	case reflect.Struct:
		for _, path := range writtenFields(v.Type()) {
			settle(v.FieldByIndex(path), attachments)
		}
	}
}

func settleMembers(v reflect.Value, attachments [][]byte) {
	if isPlain(v.Type().Elem().Kind()) || v.Type().Elem().Kind() == reflect.String {
		return
	}
	for members := v.MapRange(); members.Next(); {
		member := reflect.New(v.Type().Elem()).Elem()
		member.Set(members.Value())
		settle(member, attachments)
		v.SetMapIndex(members.Key(), member)
	}
}

// settledValue is what an any holds in the end; false if it stays as it is.
func settledValue(value any, attachments [][]byte) (any, bool) {
	switch value := value.(type) {
	case json.Number:
		return numberIn(string(value)), true
	case string:
		if len(value) == markTextSize && strings.HasPrefix(value, markText) {
			mark, _ := base64.StdEncoding.DecodeString(value)
			if number, ok := numberOf(mark); ok {
				return attachments[number], true
			}
		}
	case []any:
		for i, element := range value {
			if settled, ok := settledValue(element, attachments); ok {
				value[i] = settled
			}
		}
	case map[string]any:
		for key, member := range value {
			if settled, ok := settledValue(member, attachments); ok {
				value[key] = settled
			}
		}
	default: // what the caller had put into the any
		if pointer := reflect.ValueOf(value); pointer.Kind() == reflect.Pointer {
			settle(pointer, attachments)
		}
	}
	return nil, false
}

// numberIn is an int64 or a uint64 if every digit of an integer fits, else the nearest float64.
func numberIn(text string) any {
	if number, err := strconv.ParseInt(text, 10, 64); err == nil {
		return number
	}
	if number, err := strconv.ParseUint(text, 10, 64); err == nil {
		return number
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return json.Number(text) // too large for all of them
	}
	return number
}
