package lock_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/lock"
)

func every(string) bool { return true }

// series tells the names that begin with a prefix and a digit.
func series(prefix string) func(string) bool {
	return func(name string) bool {
		rest, ok := strings.CutPrefix(name, prefix)
		return ok && rest != "" && rest[0] >= '0' && rest[0] <= '9'
	}
}

func parse(t testing.TB, content string, ours func(string) bool) *lock.Ledger {
	t.Helper()
	l, err := lock.ParseLedger([]byte(content), ours)
	check(t, err)
	return l
}

// written is what a ledger writes, as another program reads it.
func written(t testing.TB, l *lock.Ledger) map[string]map[string][]string {
	t.Helper()
	var entries map[string]map[string][]string
	check(t, json.Unmarshal(l.Marshal(), &entries))
	return entries
}

func TestLedgerIsReadStrictly(t *testing.T) {
	tests := []struct {
		content string
		good    bool
	}{
		{"", true},
		{" \n", true},
		{"{}", true},
		{"{}\n", true},
		{`{"1": {}}`, true},
		{`{"1": {"locks": []}}`, true},
		{`{"1": {"locks": ["/d"], "parent_locks": ["/d", "/e"]}}`, true},
		{"null", false},
		{"[]", false},
		{`"1"`, false},
		{"1", false},
		{"{", false},
		{`{"1": {"locks": ["/d"]}`, false},
		{"{} {}", false},
		{"{} x", false},
		{"{}\x00", false},
		{`{"1": ["/d"]}`, false}, // written by versions between 0.2 and 0.3
		{`{"1": "/d"}`, false},
		{`{"1": {"locks": "/d"}}`, false},
		{`{"1": {"locks": {"/d": true}}}`, false},
		{`{"1": {"locks": [1]}}`, false},
		{`{"1": {"locks": ["/d"], "pinned": true}}`, false},
	}
	for _, test := range tests {
		l, err := lock.ParseLedger([]byte(test.content), every)
		if (err == nil) != test.good || (l != nil) != test.good {
			t.Errorf("%q: ledger %v, error: %v", test.content, l, err)
		}
	}
}

// predecessors is a file as btrfs-backup 0.3.1 writes it.
const predecessors = `{
    "20261121-044946": {
        "parent_locks": [
            "/mnt/d2"
        ]
    },
    "20261121-044948": {
        "locks": [
            "/mnt/d2",
            "ssh://root@nas:2222/backups"
        ]
    }
}`

func TestLedgerOfThePredecessorIsUnderstoodAndWrittenBack(t *testing.T) {
	l := parse(t, predecessors, every)
	if got := l.Holds("20261121-044946"); !slices.Equal(got, []lock.Hold{{Destination: "/mnt/d2"}}) {
		t.Errorf("holds of the common one: %+v", got)
	}
	want := []lock.Hold{{Destination: "/mnt/d2", Outstanding: true}, {Destination: "ssh://root@nas:2222/backups", Outstanding: true}}
	if got := l.Holds("20261121-044948"); !slices.Equal(got, want) {
		t.Errorf("holds of the unfinished one: %+v, want %+v", got, want)
	}
	if got := l.Holds("20261121-044947"); len(got) > 0 {
		t.Errorf("holds of one without an entry: %+v", got)
	}
	for destination, want := range map[string]bool{"/mnt/d2": true, "ssh://root@nas:2222/backups": false, "/mnt/d": false, "": false} {
		if got := l.Knows(destination); got != want {
			t.Errorf("knows %q: %t", destination, got)
		}
	}
	if got := l.Outstanding(); !slices.Equal(got, []string{"/mnt/d2", "ssh://root@nas:2222/backups"}) {
		t.Errorf("outstanding: %q", got)
	}
	if got := string(l.Marshal()); got != predecessors+"\n" {
		t.Errorf("written back as\n%s", got)
	}
}

func TestLedgerIsWrittenTheSameEveryTime(t *testing.T) {
	l := parse(t, "", every)
	if got := string(l.Marshal()); got != "{}\n" {
		t.Errorf("an empty ledger is %q", got)
	}
	for i := range 20 {
		l.SetCommon(fmt.Sprintf("/mnt/%d", i), fmt.Sprint(i))
		l.SetOutstanding(fmt.Sprintf("/mnt/%d", i), fmt.Sprint(i+1))
	}
	first := string(l.Marshal())
	for range 10 {
		if again := string(l.Marshal()); again != first {
			t.Fatalf("written as\n%s\nand as\n%s", first, again)
		}
	}
	if again := string(parse(t, first, every).Marshal()); again != first {
		t.Errorf("read and written as\n%s\nafter\n%s", again, first)
	}
}

func TestLedgerChanges(t *testing.T) {
	const start = `{"1": {"parent_locks": ["/d", "/e"]}, "2": {"locks": ["/d"]}}`
	type entries = map[string]map[string][]string
	tests := []struct {
		name   string
		change func(*lock.Ledger)
		want   entries
	}{
		{"the newest common one moves on", func(l *lock.Ledger) { l.SetCommon("/d", "2") },
			entries{"1": {"parent_locks": {"/e"}}, "2": {"locks": {"/d"}, "parent_locks": {"/d"}}}},
		{"it is recorded once", func(l *lock.Ledger) { l.SetCommon("/d", "1"); l.SetCommon("/d", "1") },
			entries{"1": {"parent_locks": {"/d", "/e"}}, "2": {"locks": {"/d"}}}},
		{"a new entry", func(l *lock.Ledger) { l.SetCommon("/new", "3") },
			entries{"1": {"parent_locks": {"/d", "/e"}}, "2": {"locks": {"/d"}}, "3": {"parent_locks": {"/new"}}}},
		{"nothing is common any more", func(l *lock.Ledger) { l.SetCommon("/d", "") },
			entries{"1": {"parent_locks": {"/e"}}, "2": {"locks": {"/d"}}}},
		{"what is outstanding moves on", func(l *lock.Ledger) { l.SetOutstanding("/d", "3") },
			entries{"1": {"parent_locks": {"/d", "/e"}}, "3": {"locks": {"/d"}}}},
		{"nothing is outstanding", func(l *lock.Ledger) { l.SetOutstanding("/d", "") },
			entries{"1": {"parent_locks": {"/d", "/e"}}}},
		{"a destination is forgotten", func(l *lock.Ledger) { l.Forget("/d") },
			entries{"1": {"parent_locks": {"/e"}}}},
		{"an unknown one is forgotten", func(l *lock.Ledger) { l.Forget("/unknown") },
			entries{"1": {"parent_locks": {"/d", "/e"}}, "2": {"locks": {"/d"}}}},
		{"a snapshot is gone", func(l *lock.Ledger) { l.DropMissing(func(name string) bool { return name != "1" }) },
			entries{"2": {"locks": {"/d"}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := parse(t, start, every)
			test.change(l)
			if got := written(t, l); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestLedgerShowsOnlyItsSeries(t *testing.T) {
	const content = `{"1": {"parent_locks": ["/own"]}, "home1": {"parent_locks": ["/other"], "locks": ["/late"]}}`
	l := parse(t, content, series(""))
	if !l.Knows("/own") || l.Knows("/other") {
		t.Errorf("knows /own: %t, /other: %t", l.Knows("/own"), l.Knows("/other"))
	}
	if got := l.Outstanding(); len(got) > 0 {
		t.Errorf("outstanding: %q", got)
	}
}

// operate makes a random change to one series.
func operate(rng *rand.Rand, l *lock.Ledger, names []string) string {
	name := names[rng.IntN(len(names))]
	destination := fmt.Sprintf("/mnt/%d", rng.IntN(3))
	operations := []struct {
		name string
		do   func()
	}{
		{"set common", func() { l.SetCommon(destination, name) }},
		{"set outstanding", func() { l.SetOutstanding(destination, name) }},
		{"clear outstanding", func() { l.SetOutstanding(destination, "") }},
		{"forget", func() { l.Forget(destination) }},
		{"drop missing", func() { l.DropMissing(func(n string) bool { return n == name }) }},
	}
	chosen := operations[rng.IntN(len(operations))]
	chosen.do()
	return fmt.Sprintf("%s %s %s", chosen.name, destination, name)
}

func TestNoChangeOfOneSeriesTouchesAnother(t *testing.T) {
	prefixes := []string{"", "home", "home-1", "var"}
	named := make(map[string][]string)
	for _, prefix := range prefixes {
		for i := range 4 {
			named[prefix] = append(named[prefix], fmt.Sprintf("%s%d", prefix, i))
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	content, changed := "{}", 0
	for range 2000 {
		prefix := prefixes[rng.IntN(len(prefixes))]
		l := parse(t, content, series(prefix))
		before := written(t, l)
		done := operate(rng, l, named[prefix])
		after := written(t, l)
		if !reflect.DeepEqual(before, after) {
			changed++
		}
		for _, entries := range []map[string]map[string][]string{before, after} {
			maps.DeleteFunc(entries, func(name string, _ map[string][]string) bool { return series(prefix)(name) })
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("in series %q: %s changed others from\n%v to\n%v", prefix, done, before, after)
		}
		content = string(l.Marshal())
	}
	if changed < 500 {
		t.Errorf("only %d operations changed anything", changed)
	}
}

func TestLedgerTellsWhichSnapshotIsCommon(t *testing.T) {
	l := parse(t, predecessors, every)
	for _, test := range []struct {
		destination, name string
		want              bool
	}{
		{"/mnt/d2", "20261121-044946", true},
		{"/mnt/d2", "20261121-044948", false}, // not completely there
		{"/mnt/d2", "20261121-044947", false},
		{"/mnt/d2", "", false},
		{"/mnt/d", "20261121-044946", false},
		{"ssh://root@nas:2222/backups", "20261121-044948", false},
	} {
		if got := l.IsCommon(test.destination, test.name); got != test.want {
			t.Errorf("%q at %s: %t", test.name, test.destination, got)
		}
	}
	l.SetCommon("/mnt/d2", "20261121-044948")
	if l.IsCommon("/mnt/d2", "20261121-044946") || !l.IsCommon("/mnt/d2", "20261121-044948") {
		t.Errorf("after a transfer: %s", l.Marshal())
	}
}

func TestLedgerNamesSeveralParentsOfOneDestination(t *testing.T) {
	l := parse(t, predecessors, every)
	l.SetCommon("/store", "20260101-000000", "20261101-000000", "20261122-000000")
	l.SetCommon("/store", "20260101-000000", "20261123-000000", "20261122-000000")
	for name, want := range map[string]string{
		"20260101-000000": "[a parent of what comes to /store]", "20261101-000000": "[]",
		"20261122-000000": "[a parent of what comes to /store]", "20261123-000000": "[newest common with /store]",
	} {
		if got := fmt.Sprint(l.Holds(name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if l.IsCommon("/store", name) != (want != "[]") {
			t.Errorf("%s: common %t", name, want == "[]")
		}
	}
	again := parse(t, string(l.Marshal()), every)
	if !slices.Equal(again.Holds("20260101-000000"), l.Holds("20260101-000000")) || !again.IsCommon("/mnt/d2", "20261121-044946") {
		t.Errorf("written as %s", l.Marshal())
	}
	l.Forget("/store")
	if l.Knows("/store") || !l.Knows("/mnt/d2") {
		t.Errorf("after it was forgotten: %s", l.Marshal())
	}
}
