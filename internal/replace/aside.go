package replace

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

const (
	before     = ".before-"
	asideStamp = "20060102-150405"
)

// Aside gives the name, beside the new subvolume, of what gave its place up.
func Aside(name string, at time.Time) string { return name + before + at.Format(asideStamp) }

// asideOf takes such a name apart.
func asideOf(aside string) (name string, at time.Time, ok bool) {
	i := strings.LastIndex(aside, before)
	if i <= 0 {
		return "", at, false
	}
	at, err := time.Parse(asideStamp, aside[i+len(before):])
	return aside[:i], at, err == nil
}

// chooseAside lets what gives its place up keep its own name, whatever its mount is called, and takes a later second as long as that is
// taken.
func (w *work) chooseAside() error {
	if _, at, ok := asideOf(w.Aside); ok {
		w.Aside = Aside(w.name, at)
	}
	for {
		_, err := btrfs.InfoAt(w.parent, w.Aside)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		_, at, ok := asideOf(w.Aside)
		if !ok {
			return nil // which fails
		}
		w.Aside = Aside(w.name, at.Add(time.Second))
	}
}

// CheckCurrent refuses a subvolume that is seen at a path, of this machine or another one, if it gave its place up in a restore and is
// still seen there, since it is mounted: what is written now is in the one that has the place. Under its own name, it is whatever people
// make of it. One whose restore did not come to its end lacks its snapshots, and is refused as well.
func CheckCurrent(s btrfs.Subvolume, at string, all btrfs.Listing) error {
	for _, other := range all.All {
		if other.Name == Hidden(s.Name) && other.Container == s.Container && other.DirID == s.DirID && other.CreatedIn < s.CreatedIn {
			return hint.New(errors.New("a restore of it did not come to its end, and its snapshots are not back yet; nothing was taken"),
				"repeat the restore, which goes on")
		}
	}
	name, _, ok := asideOf(s.Name)
	if !ok || path.Base(at) == s.Name {
		return nil
	}
	isThere := all.Top.IsZero() // then those beside may not be known
	for _, other := range all.All {
		isThere = isThere || other.Name == name && other.Container == s.Container && other.DirID == s.DirID
	}
	if !isThere {
		return nil
	}
	forward := "mount it anew: umount " + transport.Quote(at) + " && mount " + transport.Quote(at) + ", or reboot"
	if at == "/" {
		forward = "reboot"
	}
	return hint.Newf(fmt.Errorf("it is still the subvolume that a restore replaced, %s, and not %s; nothing was taken", s.Name, name),
		"%s; to back the old one up, name it by its own name, .../%s", forward, s.Name)
}
