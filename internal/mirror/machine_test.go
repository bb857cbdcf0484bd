package mirror

import (
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

// A machine is renamed, and backups go on; a clone of it that has an identity of its own does not take them for its own.
func TestARenamedMachineGoesOnWithItsBackups(t *testing.T) {
	t.Parallel()
	s := sourceOf(t, SourceOptions{}, "a")
	told := new(journal)
	f := folderFor(t, s, Options{Log: told.log()})
	others := func(origin tree.Origin) (of []string) {
		t.Helper()
		s.origin = origin
		check(t, openOrCreate(t.Context(), f))
		defer f.Close()
		found, err := f.List(t.Context())
		check(t, err)
		for _, r := range found.Recorded {
			of = append(of, r.OfAnother)
		}
		return of
	}
	laptop, renamed := tree.Origin{Source: "laptop:/d", Machine: "1"}, tree.Origin{Source: "laptop.lan:/d", Machine: "1"}
	s.origin = laptop
	mustBackUp(t, f, "1")
	mustBackUp(t, f, "2")
	const line = "backups of laptop:/d count as those of laptop.lan:/d, the same machine under another name: 2"
	if of := others(laptop); strings.Join(of, "") != "" || strings.Contains(told.String(), "count as") {
		t.Errorf("of others are %q, it told %s", of, told)
	}
	if of := others(renamed); strings.Join(of, "") != "" || !strings.Contains(told.String(), line) {
		t.Errorf("of others are %q, it told %s", of, told)
	}
	mustBackUp(t, f, "3")
	before := strings.Count(told.String(), "count as")
	if of := others(renamed); strings.Join(of, "") != "" || strings.Count(told.String(), "count as") != before {
		t.Errorf("of others are %q, it told %s", of, told)
	}
	of := others(tree.Origin{Source: "laptop:/d", Machine: "2"})
	if got := strings.Join(of, "; "); got != "laptop:/d on another machine of that name; laptop:/d on another machine of that name; laptop.lan:/d" {
		t.Errorf("of others are %s", got)
	}
}
