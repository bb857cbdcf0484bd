package job

import (
	"strings"
	"testing"
	"time"
)

func TestASetThatCannotBeMeantIsRefused(t *testing.T) {
	root, data := Local{"/"}, Local{"/srv/data"}
	for _, c := range []struct {
		members []Member
		change  func(*Spec)
		want    string
	}{
		{[]Member{{"root", root}, {"data", data}}, nil, ""},
		{[]Member{{"", root}}, nil, "it has no name"},
		{[]Member{{"/root", root}}, nil, "the name has a slash"},
		{[]Member{{"srv/data", data}}, nil, "the name has a slash"},
		{[]Member{{".root", root}}, nil, "the name is hidden"},
		{[]Member{{"20260101-000000", root}}, nil, "looks like that of a backup"},
		{[]Member{{"x20260101-000000", root}}, nil, "looks like that of a backup"},
		{[]Member{{strings.Repeat("x", 201), root}}, nil, "more than 200 bytes"},
		{[]Member{{"root", root}, {"root", data}}, nil, "is there twice"},
		{[]Member{{"root", root}, {"also", root}}, nil, "are both /"},
		{[]Member{{"root", root}}, func(s *Spec) { s.Source = data }, "has a set of sources, too"},
		{[]Member{{"root", root}}, func(s *Spec) { s.Recursive = true }, "is for a single source"},
		{[]Member{{"root", root}}, func(s *Spec) { s.Destinations = []Place{Command{"cat"}} }, "need a place for each"},
		{[]Member{{"root", root}}, func(s *Spec) { s.Destinations = []Place{Daemon{"rsync://nas/m"}} }, "need a place for each"},
		{[]Member{{"root", root}}, func(s *Spec) { s.Destinations, s.Engine = nil, Rsync }, "DEST is missing"},
		{[]Member{{"root", root}}, func(s *Spec) { s.Engine, s.Copy.Marker = Rsync, "here" }, ""},
	} {
		s := Default()
		s.Members, s.Destinations = c.members, []Place{Local{"/mnt/usb"}}
		if c.change != nil {
			c.change(&s)
		}
		err := s.Check().Err()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %v, want %q", c.members, err, c.want)
		}
	}
}

func TestAMirrorOfAllSubvolumesIsRefusedWhereNoneCanBe(t *testing.T) {
	for _, c := range []struct {
		engine Engine
		to     Place
		want   string
	}{
		{Mirror, Local{"/mnt/usb"}, ""},
		{Mirror, Store{Path: "/mnt/usb"}, "cannot hold a mirror"},
		{Automatic, Local{"/mnt/usb"}, "is about mirrors"},
	} {
		s := Default()
		s.Source, s.Recursive, s.Engine, s.Destinations, s.Copy.FullEvery = Local{"/home"}, true, c.engine, []Place{c.to}, time.Hour
		if err := s.Check().Err(); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s to %s: %v, want %q", c.engine, c.to, err, c.want)
		}
	}
}

func TestAMemberHasItsOwnFolders(t *testing.T) {
	s := Default()
	s.Destinations = []Place{Local{"/mnt/usb"}}
	s.To = map[string]To{"/mnt/usb": {MountPoint: "/mnt"}}
	s.Subvolume.Folder = "/.snapshots"
	m := s.member(Member{"data", Local{"/srv/data"}})
	if m.Destinations[0].String() != "/mnt/usb/data" || m.To["/mnt/usb/data"].MountPoint != "/mnt" || m.Subvolume.Folder != "/.snapshots/data" {
		t.Errorf("%+v", m)
	}
}

func TestAPatternExcludesSubvolumesByTheirPaths(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"cache", "home/cache", true}, {"cache", "cache", true}, {"cache", "cache/x", false}, {"cache/", "home/cache", true},
		{"/cache", "cache", true}, {"/cache", "home/cache", false}, {"/home/*", "home/alice", true}, {"/home/*", "home/alice/mail", true},
		{"alice/mail", "home/alice/mail", true}, {"lice/mail", "home/alice/mail", false}, {"*", "home", true}, {"c?che", "home/cache", true},
		{"/home/alice", "home", false},
	} {
		if got := excludes(c.pattern, c.path); got != c.want {
			t.Errorf("%q excludes %q: %t", c.pattern, c.path, got)
		}
	}
}
