package model

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMACOf(t *testing.T) {
	mac, err := MACOf("753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a")
	if err != nil || mac.String() != "02:75:3a:65:ef:91" {
		t.Errorf("got %s, %v", mac, err)
	}
	if _, err := MACOf("eth0"); err == nil {
		t.Error("made a MAC address of no UUID")
	}
}

// Derived UUIDs are in the stores of existing clusters: they never change.
func TestDerivedUUIDIsFixed(t *testing.T) {
	const want = "53acb3de-4af0-57bb-a07a-c85e7e1e2dc2"
	if got := DerivedUUID("routing-instance", "default-domain:p:blue:blue"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDerivedUUIDsDiffer(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"a:b"}, {"1:a"}, {"b", "a"}} {
		id := DerivedUUID(parts...)
		if other, taken := seen[id]; taken {
			t.Errorf("%q and %q give %s", parts, other, id)
		}
		if !IsUUID(id) {
			t.Errorf("%s is no UUID", id)
		}
		seen[id] = parts
	}
}

func TestIsUUID(t *testing.T) {
	for s, want := range map[string]bool{
		"753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a":          true,
		"753A65EF-918A-4D2B-9A3C-0F3C1D2E4B5A":          true,
		"753a65ef918a4d2b9a3c0f3c1d2e4b5a":              false,
		"{753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a}":        false,
		"urn:uuid:753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a": false,
		"753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5g":          false,
		"":                                              false,
	} {
		if IsUUID(s) != want {
			t.Errorf("IsUUID(%q) is %t", s, !want)
		}
	}
	if !IsUUID(NewUUID()) {
		t.Error("a new UUID is none")
	}
}

func TestUUIDNumbers(t *testing.T) {
	n, err := UUIDNumbers("753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a")
	if err != nil || n.UUIDMslong != 0x753a65ef918a4d2b || n.UUIDLslong != 0x9a3c0f3c1d2e4b5a {
		t.Errorf("got %x, %v", n, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := UuidType{UUIDMslong: rapid.Uint64().Draw(t, "ms"), UUIDLslong: rapid.Uint64().Draw(t, "ls")}
		if got, err := UUIDNumbers(UUIDOfNumbers(want)); err != nil || got != want {
			t.Errorf("%x becomes %x, %v", want, got, err)
		}
	})
	if _, err := UUIDNumbers("x"); err == nil {
		t.Error("split no UUID")
	}
}

func TestTimestamps(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6789, time.FixedZone("", 3600))
	if got := Timestamp(at); got != "2026-01-02T02:04:05.000006" {
		t.Errorf("got %s", got)
	}
	for _, s := range []string{"2026-01-02T02:04:05.000006", "2026-01-02T02:04:05.000006Z", "2026-01-02T03:04:05.000006+01:00"} {
		got, err := ParseTimestamp(s)
		if err != nil || Timestamp(got) != "2026-01-02T02:04:05.000006" {
			t.Errorf("%s is %v, %v", s, got, err)
		}
	}
	if _, err := ParseTimestamp("2026-01-02"); err == nil {
		t.Error("a date is a time")
	}
}

func TestNewObjectsCarryValidPermissions(t *testing.T) {
	const id = "753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a"
	perms, err := NewIDPerms(id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if UUIDOfNumbers(*perms.UUID) != id || perms.Created != perms.LastModified || !*perms.Enable {
		t.Errorf("id_perms %+v", perms)
	}
	for _, owner := range []string{"", "tenant"} {
		p := &Project{Meta: Meta{UUID: id, FQName: []string{"d", "p"}, IDPerms: perms, Perms2: NewPerms2(owner)}}
		if err := typeOf(t, "project").Validate(p); err != nil {
			t.Error(err)
		}
	}
	if _, err := NewIDPerms("x", time.Now()); err == nil {
		t.Error("made id_perms of no UUID")
	}
}

func TestFQNames(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		fq   []string
		text string
	}{
		{KindVirtualNetwork, []string{"d", "p", "blue"}, "d:p:blue"},
		{KindRouteTarget, []string{"target:64512:8000001"}, "target:64512:8000001"},
	} {
		if got := FQString(c.fq); got != c.text {
			t.Errorf("%q joined is %s", c.fq, got)
		}
		if got := ParseFQ(c.kind, c.text); FQString(got) != c.text || len(got) != len(c.fq) {
			t.Errorf("%s parsed is %q", c.text, got)
		}
	}
	if (&Meta{}).Name() != "" || (&Meta{FQName: []string{"d", "p"}}).Name() != "p" {
		t.Error("the name is not the last part")
	}
}

func TestCheckName(t *testing.T) {
	for _, c := range []struct {
		kind     Kind
		fq       []string
		property string
	}{
		{KindVirtualNetwork, []string{"d", "p", "blue"}, ""},
		{KindVirtualNetwork, []string{"d", "p", "größe 1/2 <x>"}, ""},
		{KindRouteTarget, []string{"target:1:2"}, ""},
		{KindVirtualNetwork, []string{"d", "p", "a:b"}, "fq_name[2]"},
		{KindVirtualNetwork, []string{"d", "", "a"}, "fq_name[1]"},
		{KindVirtualNetwork, []string{"d\x00", "p", "a"}, "fq_name[0]"},
		{KindVirtualNetwork, []string{"\xff"}, "fq_name[0]"},
		{KindVirtualNetwork, nil, "fq_name"},
	} {
		err := CheckName(c.kind, c.fq)
		var bad *PropertyError
		if c.property == "" && err != nil || c.property != "" && (!errors.As(err, &bad) || bad.Property != c.property) {
			t.Errorf("%q: %v", c.fq, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), c.property) {
			t.Errorf("message: %v", err)
		}
	}
}

func TestAnnotation(t *testing.T) {
	m := &Meta{}
	if _, ok := m.Annotation("k"); ok {
		t.Error("found an annotation in none")
	}
	m.Annotations = &KeyValuePairs{KeyValuePair: []KeyValuePair{{Key: "a", Value: "1"}, {Key: "k", Value: "2"}}}
	if v, ok := m.Annotation("k"); !ok || v != "2" {
		t.Errorf("annotation %q", v)
	}
}
