package btrfstest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var ofNames = []operation{
	{10, "make a file", (*mutator).makeFile},
	{5, "make directories", (*mutator).makeDirectories},
	{2, "make a symlink", (*mutator).makeSymlink},
	{2, "make a special file", (*mutator).makeSpecial},
	{6, "rename", (*mutator).renameAny},
	{3, "rename over", (*mutator).renameOver},
	{4, "exchange", (*mutator).exchange},
	{4, "move a directory", (*mutator).moveDirectory},
	{3, "turn inside out", (*mutator).turnDirectories},
	{3, "rotate", (*mutator).rotate},
	{3, "link", (*mutator).linkAny},
	{1, "make many links", (*mutator).linkMany},
	{5, "unlink", (*mutator).unlink},
	{2, "remove a tree", (*mutator).removeTree},
	{1, "remove a directory", (*mutator).removeDirectory},
	{3, "replace", (*mutator).replaceAny},
	{3, "save", (*mutator).save},
}

func (m *mutator) makeFile() { m.newFile(m.free(m.dir())) }

func (m *mutator) newFile(path string) {
	f, err := os.OpenFile(m.path(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	m.check(err)
	defer f.Close()
	m.add(path, 0)
	kind := m.storedOtherwise(path)
	data := m.content()
	_, err = f.Write(data)
	m.did(err, "%q with %d bytes%s", path, len(data), kind)
}

// makeDirectories makes one, or several in each other.
func (m *mutator) makeDirectories() {
	dir := m.dir()
	for range 1 + m.rng.IntN(4)*m.rng.IntN(2) {
		dir = m.free(dir)
		m.newDirectory(dir)
	}
}

func (m *mutator) newDirectory(path string) {
	m.did(os.Mkdir(m.path(path), 0o755), "%q", path)
	m.add(path, fs.ModeDir)
}

func (m *mutator) makeSymlink() {
	path, target := m.free(m.dir()), m.all().path
	switch m.rng.IntN(4) {
	case 0:
		target = strings.Repeat("../x", 1+m.rng.IntN(900))
	case 1:
		target = "/etc/" + m.name()
	}
	m.did(os.Symlink(target, m.path(path)), "%q to %d bytes", path, len(target))
	m.add(path, fs.ModeSymlink)
}

func (m *mutator) makeSpecial() {
	path := m.free(m.dir())
	kinds := []struct {
		mode uint32
		kind fs.FileMode
	}{{unix.S_IFIFO, fs.ModeNamedPipe}, {unix.S_IFSOCK, fs.ModeSocket}, {unix.S_IFCHR, fs.ModeDevice | fs.ModeCharDevice}, {unix.S_IFBLK, fs.ModeDevice}}
	k, device := kinds[m.rng.IntN(len(kinds))], 0
	if k.kind&fs.ModeDevice != 0 {
		device = int(unix.Mkdev(m.rng.Uint32N(1<<12), m.rng.Uint32N(1<<20)))
	}
	m.did(unix.Mknod(m.path(path), k.mode|m.rng.Uint32N(0o1000), device), "%q, %v %#x", path, k.kind, device)
	m.add(path, k.kind)
}

// into gives a free path in a directory that is not below what is moved there.
func (m *mutator) into(moved string) (string, bool) {
	dir, ok := m.pick(func(n node) bool { return n.kind.IsDir() && !below(n.path, moved) && m.fits(moved, n.path) })
	return m.free(dir.path), ok
}

// fits tells whether all below a path can be moved into a directory without becoming too long to be opened.
func (m *mutator) fits(from, dir string) bool {
	longest := 0
	for _, n := range m.nodes {
		if below(n.path, from) {
			longest = max(longest, len(n.path))
		}
	}
	return len(dir)+longest-len(from) < longestPath
}

func (m *mutator) move(from, to string) {
	m.did(unix.Rename(m.path(from), m.path(to)), "%q to %q", from, to)
	m.moved(from, to)
}

func (m *mutator) renameAny() {
	if from, ok := m.any(); ok {
		if to, ok := m.into(from.path); ok {
			m.move(from.path, to)
		}
	}
}

// renameOver gives a file the name of another, or a directory that of an empty one.
func (m *mutator) renameOver() {
	from, ok := m.any()
	if !ok {
		return
	}
	to, ok := m.pick(func(n node) bool {
		return n.path != "." && n.kind.IsDir() == from.kind.IsDir() && apart(n.path, from.path) && m.fits(from.path, filepath.Dir(n.path)) &&
			(!n.kind.IsDir() || m.empty(n.path))
	})
	if !ok || m.sameFile(from.path, to.path) { // then rename does nothing
		return
	}
	m.drop(to.path)
	m.move(from.path, to.path)
}

func (m *mutator) empty(dir string) bool {
	list, err := os.ReadDir(m.path(dir))
	m.check(err)
	return len(list) == 0
}

func (m *mutator) sameFile(a, b string) bool {
	var x, y unix.Stat_t
	m.check(unix.Lstat(m.path(a), &x))
	m.check(unix.Lstat(m.path(b), &y))
	return x.Ino == y.Ino
}

func (m *mutator) exchange() {
	a, ok := m.any()
	if !ok {
		return
	}
	b, ok := m.pick(func(n node) bool {
		return apart(n.path, a.path) && m.fits(n.path, filepath.Dir(a.path)) && m.fits(a.path, filepath.Dir(n.path))
	})
	if !ok {
		return
	}
	err := unix.Renameat2(unix.AT_FDCWD, m.path(a.path), unix.AT_FDCWD, m.path(b.path), unix.RENAME_EXCHANGE)
	m.did(err, "%q and %q", a.path, b.path)
	const aside = "//"
	m.moved(a.path, aside)
	m.moved(b.path, a.path)
	m.moved(aside, b.path)
}

func (m *mutator) moveDirectory() {
	from, ok := m.pick(func(n node) bool { return n.kind.IsDir() && n.path != "." })
	if !ok {
		return
	}
	if to, ok := m.into(from.path); ok {
		m.move(from.path, to)
	}
}

// turnDirectories makes a directory the child of one that was in it, under its own name or a new one, so that neither can be
// renamed first.
func (m *mutator) turnDirectories() {
	inner, ok := m.pick(func(n node) bool { return n.kind.IsDir() && filepath.Dir(n.path) != "." && n.path != "." })
	if !ok {
		return
	}
	outer := filepath.Dir(inner.path)
	for m.rng.IntN(3) == 0 && filepath.Dir(outer) != "." {
		outer = filepath.Dir(outer)
	}
	aside := m.free(filepath.Dir(outer))
	m.move(inner.path, aside)
	if !m.fits(outer, aside) {
		return
	}
	m.move(outer, m.free(aside))
	if m.rng.IntN(2) == 0 {
		m.move(aside, outer)
	}
}

// rotate gives each of some files and directories in one directory the name of the next.
func (m *mutator) rotate() {
	first, ok := m.any()
	if !ok {
		return
	}
	dir := filepath.Dir(first.path)
	var names []string
	for _, n := range m.nodes {
		if n.path != "." && filepath.Dir(n.path) == dir && m.fits(n.path, dir) {
			names = append(names, n.path)
		}
	}
	if len(names) < 2 {
		return
	}
	names = names[:min(len(names), 2+m.rng.IntN(4))]
	aside := m.free(dir)
	m.move(names[0], aside)
	for i, name := range names[1:] {
		m.move(name, names[i])
	}
	m.move(aside, names[len(names)-1])
}

func (m *mutator) linkAny() {
	if n, ok := m.other(); ok {
		path := m.free(m.dir())
		m.did(os.Link(m.path(n.path), m.path(path)), "%q to %q", path, n.path)
		m.add(path, n.kind)
	}
}

// linkMany makes up to 300 links, in one directory or in several, with names so long that no leaf of a tree takes them all.
func (m *mutator) linkMany() {
	n, ok := m.other()
	if !ok || len(m.nodes) > manyNodes {
		return
	}
	dir, name, count := m.free(m.dir()), strings.Repeat("l", 1+m.rng.IntN(240)), 30+m.rng.IntN(271)
	m.newDirectory(dir)
	for i := range count {
		if m.rng.IntN(100) == 0 {
			dir = m.free(m.dir())
			m.newDirectory(dir)
		}
		path := filepath.Join(dir, fmt.Sprintf("%s%d", name, i))
		m.link(n.path, path)
		m.add(path, n.kind)
	}
	m.note("%d to %q", count, n.path)
}

func (m *mutator) unlink() {
	if n, ok := m.other(); ok {
		m.did(os.Remove(m.path(n.path)), "%q", n.path)
		m.drop(n.path)
	}
}

func (m *mutator) removeTree() {
	if n, ok := m.pick(func(n node) bool { return n.kind.IsDir() && n.path != "." }); ok {
		m.did(os.RemoveAll(m.path(n.path)), "%q", n.path)
		m.drop(n.path)
	}
}

func (m *mutator) removeDirectory() {
	if n, ok := m.pick(func(n node) bool { return n.kind.IsDir() && n.path != "." && m.empty(n.path) }); ok {
		m.did(unix.Rmdir(m.path(n.path)), "%q", n.path)
		m.drop(n.path)
	}
}

// replaceAny gives a name to something else: a file to a directory, the reverse, or one to a new one of its own kind.
func (m *mutator) replaceAny() {
	n, ok := m.any()
	if !ok || !m.fits(n.path, n.path) {
		return
	}
	m.check(os.RemoveAll(m.path(n.path)))
	m.drop(n.path)
	if m.rng.IntN(2) == 0 {
		m.newFile(n.path)
		return
	}
	m.newDirectory(n.path)
	m.newFile(m.free(n.path))
}

// save writes a file anew as editors do.
func (m *mutator) save() {
	n, ok := m.file()
	if !ok || !m.fits(n.path, filepath.Dir(n.path)) {
		return
	}
	aside := m.free(filepath.Dir(n.path))
	m.newFile(aside)
	m.drop(n.path)
	m.move(aside, n.path)
}
