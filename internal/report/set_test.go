package report

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
)

// ofSet is the report on a set of two, of which the second failed at one destination.
func ofSet() *engine.Report {
	const name = "20260101-000000"
	saved := []engine.TransferReport{{Snapshot: name, Bytes: 1000}}
	failed := []engine.TransferReport{{Snapshot: name, Failure: &engine.Failure{Err: errors.New("no")}}}
	return &engine.Report{Source: "root=/ data=/srv", Snapshot: name, Members: []*engine.Report{
		{Source: "/", Snapshot: name, Destinations: []engine.DestinationReport{
			{Destination: "/a/root", Transfers: saved}, {Destination: "/b/root", Transfers: saved}, {Destination: "/c/root", Absent: "not due"}}},
		{Source: "/srv", Snapshot: name, Destinations: []engine.DestinationReport{
			{Destination: "/a/data", Transfers: saved}, {Destination: "/b/data", Transfers: failed}, {Destination: "/c/data", Absent: "not due"}}},
	}, Destinations: []engine.DestinationReport{
		{Destination: "/a", OfSet: true, Sets: []engine.SetReport{{Name: name}}},
		{Destination: "/b", OfSet: true, Sets: []engine.SetReport{{Name: name, Lacks: []string{"data"}}}},
		{Destination: "/c", OfSet: true, Absent: "not due"},
	}}
}

func TestATableTellsOfEachMemberAndOfTheSet(t *testing.T) {
	var text bytes.Buffer
	if err := WriteTable(&text, ofSet(), 200); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(text.String()), "\n")[1:] {
		words := strings.Fields(line)
		got = append(got, words[0]+" "+words[len(words)-1])
	}
	if want := "/a/root saved; /b/root saved; /a/data saved; /b/data FAILED; /a complete; /b data; /c due"; strings.Join(got, "; ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !strings.Contains(text.String(), "INCOMPLETE, without data") {
		t.Error(text.String())
	}
}

func TestTheHistoryTellsWhichSetsBecameComplete(t *testing.T) {
	run := Summarize(Result{Report: ofSet()})
	var got []string
	for _, d := range run.Destinations {
		got = append(got, fmt.Sprint(d.Destination, d.Saved, d.Absent))
	}
	want := "/a/root[20260101-000000] /b/root[20260101-000000] /a/data[20260101-000000] /b/data[] /a[20260101-000000] /b[] /c[]not due"
	if strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	if outcome := ofSet().Outcome(); outcome != engine.Partly {
		t.Errorf("the outcome is %v", outcome)
	}
	recursive := ofSet()
	recursive.Members[0].Destinations[0].Destination = "/a" // that of the source itself
	if got := Summarize(Result{Report: recursive}).Destinations; len(got) != 6 || got[0].Bytes != 1000 {
		t.Errorf("%+v", got)
	}
}
