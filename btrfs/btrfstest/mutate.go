package btrfstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	manyNodes   = 400     // of a tree: from there on, more is removed than made
	smallFile   = 2 << 20 // the largest file whose extents are moved about
	hugeFile    = 1 << 40 // where the second extent of a sparse file begins, about
	longestPath = 3000    // of a directory that something is put in, relative to the tree
)

// Mutate does n random operations to a tree of any state, an empty one or what it left before. The same seed does the same to
// the same tree. Operations that are named without do not occur. It gives what it did, a line for each. It needs root.
func Mutate(t testing.TB, dir string, seed int64, n int, without ...string) (done []string) {
	t.Helper()
	m := &mutator{tree: newTree(t, dir, "mutate", seed)}
	m.operations = slices.DeleteFunc(slices.Clone(operations), func(o operation) bool { return slices.Contains(without, o.name) })
	m.check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			path, err = filepath.Rel(dir, path)
			m.nodes = append(m.nodes, node{path, d.Type()})
		}
		return err
	}))
	total := 0
	for _, o := range m.operations {
		total += o.weight
	}
	for _, n := range m.nodes {
		if n.kind.IsDir() || n.kind.IsRegular() {
			m.unlock(n.path)
		}
	}
	for range n {
		m.operate(total)
	}
	m.lockAll()
	return m.done
}

// An operation is done as often, compared to others, as its weight says.
type operation struct {
	weight int
	name   string
	do     func(*mutator)
}

var operations = slices.Concat(ofNames, ofData, ofMetadata)

// mutator keeps a list of all that there is, so that each operation finds what it needs.
type mutator struct {
	*tree
	operations []operation
	nodes      []node
	locked     []string // paths
	doing      string
	done       []string
}

type node struct {
	path string // "." is the tree itself
	kind fs.FileMode
}

func (m *mutator) operate(total int) {
	if len(m.nodes) > manyNodes && m.rng.IntN(2) == 0 {
		m.doing = "prune"
		m.removeTree()
		return
	}
	at := m.rng.IntN(total)
	for _, o := range m.operations {
		if at -= o.weight; at < 0 {
			m.doing = o.name
			o.do(m)
			return
		}
	}
}

func (m *mutator) note(format string, args ...any) {
	m.done = append(m.done, m.doing+": "+fmt.Sprintf(format, args...))
}

// did notes an operation, which must not have failed.
func (m *mutator) did(err error, format string, args ...any) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%s: %s: %v, after\n%s", m.doing, fmt.Sprintf(format, args...), err, strings.Join(m.done[max(0, len(m.done)-10):], "\n"))
	}
	m.note(format, args...)
}

// allow is did for what the filesystem may refuse, and tells whether it did not.
func (m *mutator) allow(err error, refusal unix.Errno, format string, args ...any) bool {
	m.t.Helper()
	if errors.Is(err, refusal) {
		m.note(format+": %v", append(args, refusal)...)
		return false
	}
	m.did(err, format, args...)
	return true
}

// pick gives one of those that fit.
func (m *mutator) pick(fits func(node) bool) (node, bool) {
	var found []node
	for _, n := range m.nodes {
		if fits(n) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return node{}, false
	}
	return found[m.rng.IntN(len(found))], true
}

func (m *mutator) any() (node, bool)   { return m.pick(func(n node) bool { return n.path != "." }) }
func (m *mutator) other() (node, bool) { return m.pick(func(n node) bool { return !n.kind.IsDir() }) }
func (m *mutator) file() (node, bool)  { return m.pick(func(n node) bool { return n.kind.IsRegular() }) }

// all is any, and the tree itself.
func (m *mutator) all() node {
	n, _ := m.pick(func(node) bool { return true })
	return n
}

// small gives a file that is not huge, for what would make btrfs send write out its holes, as streams of protocol 1 have them.
func (m *mutator) small() (n node, size int64, ok bool) {
	n, ok = m.pick(func(n node) bool { return n.kind.IsRegular() && m.size(n.path) <= smallFile })
	if ok {
		size = m.size(n.path)
	}
	return n, size, ok
}

func (m *mutator) size(path string) int64 {
	st, err := os.Lstat(m.path(path))
	m.check(err)
	return st.Size()
}

// dir gives a directory, which may be the tree itself, that has room for more below it.
func (m *mutator) dir() string {
	n, ok := m.pick(func(n node) bool { return n.kind.IsDir() && len(n.path) < longestPath })
	if !ok {
		return "."
	}
	return n.path
}

// free gives a path that nothing has, in a directory. Most names are few, so that they are soon taken anew.
func (m *mutator) free(dir string) string {
	for {
		path := filepath.Join(dir, m.name())
		if !m.exists(path) {
			return path
		}
	}
}

func (m *mutator) name() string {
	letter := string(rune('a' + m.rng.IntN(20)))
	switch m.rng.IntN(20) {
	case 0:
		return strings.Repeat(letter, 255)
	case 1:
		return fmt.Sprintf("o%d-%d-0", 256+m.rng.IntN(500), 5+m.rng.IntN(50)) // as btrfs send names what has none yet
	case 2:
		return letter + "\n\xff ü"
	case 3, 4, 5:
		return fmt.Sprintf("%s%d", letter, m.rng.IntN(1000))
	}
	return letter
}

// below tells whether a path is a directory or something in it.
func below(path, dir string) bool {
	return path == dir || dir == "." || strings.HasPrefix(path, dir+"/")
}

// apart tells whether neither of two paths is below the other.
func apart(a, b string) bool { return !below(a, b) && !below(b, a) }

func (m *mutator) add(path string, kind fs.FileMode) {
	m.nodes = append(m.nodes, node{path, kind})
}

// drop forgets a path and all below.
func (m *mutator) drop(path string) {
	m.nodes = slices.DeleteFunc(m.nodes, func(n node) bool { return below(n.path, path) })
}

// moved gives all below a path another.
func (m *mutator) moved(from, to string) {
	for i, n := range m.nodes {
		if below(n.path, from) {
			m.nodes[i].path = to + strings.TrimPrefix(n.path, from)
		}
	}
}
