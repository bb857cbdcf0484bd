package host_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/tree"
)

func uuid(n byte) btrfs.UUID { return btrfs.UUID{n} }

// continuing gives what is known of sources, each of which continues another one.
func continuing(links map[byte]byte) (a host.About) {
	a.Sources = make(map[btrfs.UUID]host.AboutSource)
	for source, before := range links {
		a.Sources[uuid(source)] = host.AboutSource{Continues: uuid(before)}
	}
	return a
}

func TestBackupsCountAsThoseOfTheNewestSourceThatContinuesTheirs(t *testing.T) {
	for name, test := range map[string]struct {
		links map[byte]byte
		want  map[byte]byte // by source
	}{
		"one after another":   {map[byte]byte{2: 1, 3: 2}, map[byte]byte{1: 3, 2: 3, 3: 3, 4: 4}},
		"two after one":       {map[byte]byte{2: 1, 3: 1}, map[byte]byte{1: 1, 2: 2, 3: 3}},
		"a circle":            {map[byte]byte{2: 1, 1: 2}, map[byte]byte{1: 1, 2: 2, 3: 3}},
		"itself":              {map[byte]byte{1: 1}, map[byte]byte{1: 1}},
		"a circle with a way": {map[byte]byte{2: 1, 3: 2, 2 + 2: 3, 1: 4}, map[byte]byte{1: 1, 3: 3}},
		"none":                {nil, map[byte]byte{1: 1}},
	} {
		origins, want := make(host.Origins), make(host.Origins)
		for source, as := range test.want {
			origins[uuid(100+source)], want[uuid(100+source)] = uuid(source), uuid(as)
		}
		if got := continuing(test.links).Resolve(origins); !maps.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestASourceThatIsBackedUpAgainIsNobodysPast(t *testing.T) {
	a := continuing(map[byte]byte{2: 1, 3: 2})
	a.Add(uuid(100), host.Origin{Subvolume: uuid(3)}, time.Now())
	if got := a.Newest(uuid(1)); got != uuid(3) {
		t.Errorf("the newest is %s", got)
	}
	a.Add(uuid(101), host.Origin{Subvolume: uuid(1)}, time.Now())
	if got := []btrfs.UUID{a.Newest(uuid(1)), a.Newest(uuid(2))}; got[0] != uuid(1) || got[1] != uuid(3) {
		t.Errorf("the newest are %v", got)
	}
}

func TestAClientNamesItsSourceAndRenamesNone(t *testing.T) {
	var a host.About
	add := func(source, received byte, name string, untrusted bool, sent int64) {
		of := host.Origin{Subvolume: uuid(source), Origin: tree.Origin{Source: name, Machine: name}, Sent: sent, Untrusted: untrusted}
		a.Add(uuid(received), of, time.Now())
	}
	want := func(source byte, name string, received byte, sent int64) {
		t.Helper()
		if a.Name(uuid(source)) != name || a.Sources[uuid(source)].Machine != name || a.Sent(uuid(received)) != sent {
			t.Errorf("it is %q, %d bytes", a.Name(uuid(source)), a.Sent(uuid(received)))
		}
	}
	add(1, 100, "laptop:/home", true, 5)
	want(1, "laptop:/home", 100, 5)
	add(1, 100, "evil:/home", true, 6)
	want(1, "laptop:/home", 100, 5)
	add(1, 100, "renamed:/home", false, -7)
	want(1, "renamed:/home", 100, 0)
	add(2, 101, strings.Repeat("x\xff", 9000), true, 0)
	if name := a.Name(uuid(2)); len(name) > 5<<10 || !strings.HasPrefix(name, "x?x?") {
		t.Errorf("a name of %d bytes: %.9q", len(name), name)
	}
}

func TestWhatIsKnownOfBackupsThatAreGoneIsDropped(t *testing.T) {
	a := continuing(map[byte]byte{2: 1, 3: 2, 5: 4})
	a.Add(uuid(100), host.Origin{Subvolume: uuid(3), Sent: 1}, time.Now())
	a.Add(uuid(101), host.Origin{Subvolume: uuid(9), Origin: tree.Origin{Source: "gone"}}, time.Now())
	listing := btrfs.Listing{InDirectory: []btrfs.Subvolume{{ReceivedUUID: uuid(102)}}}
	a.Tidy(listing, host.Origins{uuid(102): uuid(1), uuid(103): uuid(4)})
	if len(a.Backups) > 0 || len(a.Sources) != 2 || a.Newest(uuid(1)) != uuid(3) {
		t.Errorf("left are %+v", a)
	}
	content, err := a.Marshal()
	check(t, err)
	read, err := host.ParseAbout(host.File{Content: content})
	if err != nil || read.Newest(uuid(1)) != uuid(3) {
		t.Errorf("read back: %+v, %v", read, err)
	}
}
