package volume

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

// relayed sorts received backups of the sources with the given names, oldest first, each of a source of its own; one without a name is
// on record nowhere.
func relayed(t *testing.T, names ...string) (shelf, []btrfs.UUID) {
	t.Helper()
	var content host.Content
	origins, about := make(host.Origins), host.About{Sources: make(map[btrfs.UUID]host.AboutSource)}
	sources := make([]btrfs.UUID, len(names))
	for i, name := range names {
		sources[i] = btrfs.UUID{1, byte(i)}
		received := btrfs.UUID{2, byte(i)}
		content.InDirectory = append(content.InDirectory, btrfs.Subvolume{Name: string('a' + byte(i)), UUID: btrfs.UUID{3, byte(i)},
			ReceivedUUID: received, ReceivedIn: 9, ReadOnly: true, CreatedIn: uint64(i)})
		if name != "" {
			origins[received] = sources[i]
			about.Sources[sources[i]] = host.AboutSource{Origin: tree.Origin{Source: name}}
		}
	}
	for file, value := range map[*host.File]any{&content.Origins: origins, &content.About: about} {
		text, err := json.Marshal(value)
		check(t, err)
		file.Content = text
	}
	r := NewRelay(here, "/backups", lock.State{}, silent)
	s, err := r.shelfOf(content, nil, func(string) bool { return true })
	check(t, err)
	return s, sources
}

func namesOf(s shelf) string {
	var names []string
	for _, b := range s.backups {
		names = append(names, b.Name)
	}
	return strings.Join(names, "")
}

func TestASourceThatWasRolledBackIsOneOfWhichBackupsAreSentOn(t *testing.T) {
	t.Parallel()
	s, sources := relayed(t, "laptop:/home", "laptop:/home")
	if namesOf(s) != "ba" || !slices.Equal(s.sources, []btrfs.UUID{sources[1], sources[0]}) || s.origin.Source != "laptop:/home" || len(s.others) > 0 {
		t.Errorf("%+v", s)
	}
}

func TestOtherSourcesAndUnknownOnesAreNotSentOn(t *testing.T) {
	t.Parallel()
	s, sources := relayed(t, "laptop:/etc", "", "laptop:/home")
	if namesOf(s) != "c" || !slices.Equal(s.sources, sources[2:]) || !slices.Equal(s.others, []string{"laptop:/etc"}) || !slices.Equal(s.unknown, []string{"b"}) {
		t.Errorf("%+v", s)
	}
	if err := s.check(NewRelay(here, "/backups", lock.State{}, silent)); err == nil || !strings.Contains(err.Error(), "laptop:/etc") {
		t.Errorf("several sources: %v", err)
	}
}

func TestBackupsOfWhichNothingIsOnRecordAreOfOneSource(t *testing.T) {
	t.Parallel()
	s, _ := relayed(t, "", "")
	again, _ := relayed(t, "", "", "")
	if namesOf(s) != "ba" || len(s.sources) != 1 || s.sources[0].IsZero() || !slices.Equal(s.sources, again.sources) || !strings.HasSuffix(s.origin.Source, ":/backups") {
		t.Errorf("%+v", s)
	}
}

func TestADirectoryHasTheSameUUIDUnderEachNameOfItsMachine(t *testing.T) {
	t.Parallel()
	home := uuidFor(tree.Origin{Source: "laptop:/etc", Machine: "1"})
	for other, same := range map[tree.Origin]bool{
		{Source: "laptop.lan:/etc", Machine: "1"}: true,
		{Source: "laptop:/etc", Machine: "2"}:     false,
		{Source: "laptop:/srv", Machine: "1"}:     false,
		{Source: "laptop:/etc"}:                   false,
	} {
		if (uuidFor(other) == home) != same {
			t.Errorf("%+v is the same: %t", other, !same)
		}
	}
}
