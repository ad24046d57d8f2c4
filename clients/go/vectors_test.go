package keybroker

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// vector is one of proto/vectors: bytes, and what they are.
type vector struct {
	Name, Limits, Hex, Walk string
	ID                      *uint32
	Length                  int
	Canonical               bool
	Message                 json.RawMessage
}

func (v vector) bytes() []byte {
	data, err := hex.DecodeString(v.Hex)
	if err != nil {
		panic(err)
	}
	return data
}

func (v vector) limits() limits {
	return map[string]limits{"request": requestLimits, "reply": replyLimits}[v.Limits]
}

// vectors reads those of the source tree, or of the folder that KEYBROKER_VECTORS names.
func vectors(t testing.TB) []vector {
	folder := os.Getenv("KEYBROKER_VECTORS")
	if folder == "" {
		folder = "../../proto/vectors"
	}
	if _, err := os.Stat(folder); err != nil {
		t.Skip("the vectors are not part of the module: KEYBROKER_VECTORS names their folder")
	}
	files, _ := filepath.Glob(filepath.Join(folder, "*.json"))
	var all []vector
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Vectors []vector }
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatal(name, err)
		}
		all = append(all, file.Vectors...)
	}
	if len(all) < 100 {
		t.Fatalf("only %d vectors in %s", len(all), folder)
	}
	return all
}

var verdicts = map[verdict]string{complete: "complete", incomplete: "incomplete", malformed: "malformed", tooLarge: "too_large"}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		v := v
		t.Run(v.Name, func(t *testing.T) {
			length, got := walk(v.bytes(), v.limits())
			if verdicts[got] != v.Walk {
				t.Fatalf("it is %s, not %s", verdicts[got], v.Walk)
			}
			if id := peekID(v.bytes(), v.limits()); v.Limits == "request" && !reflect.DeepEqual(id, v.ID) {
				t.Errorf("id %v, not %v", id, v.ID)
			}
			if got != complete {
				return
			}
			if length != v.Length {
				t.Errorf("length %d, not %d", length, v.Length)
			}
			checkMeaning(t, v, v.bytes()[:length])
		})
	}
}

// checkMeaning holds what was read, and what is packed, against the vector's message.
func checkMeaning(t *testing.T, v vector, data []byte) {
	m, err := readMessage(data)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{"type": []string{"request", "reply", "notification"}[m.kind]}
	if m.kind != typeNotification {
		got["id"] = m.id
	}
	if m.kind == typeReply {
		got["error"], got["result"] = m.err, m.value
	} else {
		got["method"], got["params"] = m.method, m.params
	}
	want := ordered(t, v.Message).([]field)
	if text := toJSON(t, got); text != toJSON(t, plain(want)) {
		t.Errorf("it means %s, not %s", text, v.Message)
	}
	if !v.Canonical {
		return
	}
	packed, err := pack(wire(want))
	if err != nil || !bytes.Equal(packed, data) {
		t.Errorf("it packs as %x, %v", packed, err)
	}
}

// wire is the message in its outer array, as packRequest makes it.
func wire(message []field) []any {
	at := map[string]any{}
	for _, f := range message {
		at[f.name] = f.value
	}
	switch at["type"] {
	case "request":
		return []any{int64(typeRequest), at["id"], at["method"], []any{at["params"]}}
	case "reply":
		return []any{int64(typeReply), at["id"], at["error"], at["result"]}
	}
	return []any{int64(typeNotification), at["method"], []any{at["params"]}}
}

// ordered is JSON as the packer takes it: maps keep the order of their members.
func ordered(t *testing.T, text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return orderedValue(t, d)
}

func orderedValue(t *testing.T, d *json.Decoder) any {
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch token := token.(type) {
	case json.Number:
		n, err := token.Int64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	case json.Delim:
		if token == '[' {
			list := []any{}
			for d.More() {
				list = append(list, orderedValue(t, d))
			}
			_, _ = d.Token()
			return list
		}
		fields := []field{}
		for d.More() {
			name, _ := d.Token()
			fields = append(fields, field{name.(string), orderedValue(t, d)})
		}
		_, _ = d.Token()
		return fields
	}
	return token
}

// plain is the same without the order.
func plain(v any) any {
	switch v := v.(type) {
	case []field:
		m := map[string]any{}
		for _, f := range v {
			m[f.name] = plain(f.value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(v[i])
		}
		return list
	}
	return v
}

func toJSON(t *testing.T, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// peekID is the id of what begins like a request, however wrong the rest of it is; a client has no use for that.
func peekID(data []byte, l limits) *uint32 {
	w := walker{data: data, limits: l}
	if array, _ := w.token(); array.kind != kindArray {
		return nil
	}
	w.owed = 0
	if t, v := w.token(); v != complete || t.kind != kindInt || t.negative || t.number != typeRequest {
		return nil
	}
	begin := w.pos
	if w.id() != complete {
		return nil
	}
	w.pos = begin
	t, _ := w.token()
	id := uint32(t.number)
	return &id
}

// FuzzReply: whatever a server sends is judged without a crash, and what the walker lets through, the reader reads to its
// end, as it does each of its beginnings as incomplete.
func FuzzReply(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		length, v := walk(data, replyLimits)
		if length < 0 || length > len(data) {
			t.Fatalf("length %d of %d", length, len(data))
		}
		if v != complete {
			return
		}
		for n := 0; n < length; n += 1 + length/64 {
			if _, v := walk(data[:n], replyLimits); v != incomplete {
				t.Fatalf("the first %d bytes are %s", n, verdicts[v])
			}
		}
		m, err := readMessage(data[:length])
		if err != nil {
			if err != errShape {
				t.Fatal(err)
			}
			return
		}
		_, _ = readCredential(m.value, "service", "")
		if m.err != nil {
			_ = refusal(m.err, "").Error()
		}
	})
}
