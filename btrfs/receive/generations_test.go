package receive_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
)

func TestGenerations(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runChain(t, seed, 50) })
	}
}

func TestManyGenerations(t *testing.T) {
	btrfstest.OnlyInAll(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", 100+seed), func(t *testing.T) { runChain(t, 100+seed, 200) })
	}
}

// A chain of generations of a subvolume is sent between two filesystems. What was received last may become what is changed and sent next.
type chain struct {
	t     *testing.T
	rng   *rand.Rand
	seed  uint64
	sides [2]*btrfstest.FS
	from  int          // the side with what is changed
	kept  []generation // that both sides have, the oldest first

	redone   int // steps of btrfs receive, by Stream
	apart    int // steps after which something could not be compressed
	hopeless int // increments that neither could apply
}

// A generation was made on one side.
type generation struct {
	name  string
	side  int
	apart int // differences, since something could not be compressed
}

// A step is how one generation is sent and received.
type step struct {
	parent                string // "": complete
	protocol              int
	compressed, noData    bool
	native                bool
	workers               int
	name, sent, directory string
}

func runChain(t *testing.T, seed uint64, generations int) {
	mounts := [][]string{nil, {"compress-force=zstd"}, {"compress=lzo"}, {"max_inline=0"}}
	c := &chain{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range c.sides {
		c.sides[i] = btrfstest.New(t, 2<<30, mounts[int(seed)>>i%len(mounts)]...)
	}
	btrfstest.Run(t, "btrfs", "subvolume", "create", filepath.Join(c.sides[0].Dir, "work"))
	for g := range generations {
		c.add(g)
	}
	t.Logf("%d generations: %d of btrfs receive were received again by Stream, after %d something could not be compressed, %d could not be applied by either",
		generations, c.redone, c.apart, c.hopeless)
	last := c.kept[len(c.kept)-1]
	for _, side := range c.sides { // what is read from now on is what is on the disk
		btrfstest.Unmount(t, side.Dir)
		btrfstest.Run(t, "btrfs", "check", "--readonly", side.Image)
		side.Device = side.Image
		side.Mount(t, side.Dir, "loop")
	}
	diffs, err := btrfstest.Diff(filepath.Join(c.sides[0].Dir, last.name), filepath.Join(c.sides[1].Dir, last.name), btrfstest.RootTime)
	check(t, err)
	if len(diffs) != last.apart {
		t.Errorf("%d differences, want %d:\n%s", len(diffs), last.apart, strings.Join(diffs[:min(len(diffs), 20)], "\n"))
	}
}

// add makes and sends one more generation.
func (c *chain) add(g int) {
	work := filepath.Join(c.sides[c.from].Dir, "work")
	done := btrfstest.Mutate(c.t, work, int64(c.seed)<<32+int64(g), 5+c.rng.IntN(40))
	name := fmt.Sprintf("%04d", g)
	check(c.t, c.snapshot(name))
	s := c.choose(name)
	apart, err := c.deliver(s)
	if err != nil {
		c.t.Fatalf("generation %d of seed %d, %+v: %v\nwhat was done:\n%s", g, c.seed, s, err, strings.Join(done, "\n"))
	}
	if apart > 0 {
		c.apart++
	}
	c.kept = append(c.kept, generation{s.name, c.from, apart})
	if len(c.kept) > 3 {
		for _, side := range c.sides {
			c.delete(side, c.kept[0].name)
		}
		c.kept = c.kept[1:]
	}
	if c.rng.IntN(6) == 0 {
		c.turn()
	}
}

// deliver sends and receives a generation, also otherwise if what fails is not Stream.
func (c *chain) deliver(s step) (apart int, err error) {
	try := func() {
		c.send(s)
		apart, err = c.receive(s)
	}
	again := func() {
		c.delete(c.sides[1-c.from], s.name)
		try()
	}
	try()
	switch {
	case err == nil:
	case !s.native && flaws.MatchString(err.Error()):
		c.redone++
		s.native = true
		again()
	case s.parent != "" && missing.MatchString(err.Error()):
		first := err
		s.native, s.noData = !s.native, false
		again()
		if err == nil || !missing.MatchString(err.Error()) {
			return apart, fmt.Errorf("%w; and then by the other: %w", first, err)
		}
		c.hopeless++
		s.parent, s.native = "", true
		again()
	}
	return apart, err
}

// missing is what both say to an increment that nobody can apply: at times, Linux (6.18) names something by a path that it has changed already
// or not yet.
var missing = regexp.MustCompile(`(?i)no such file or directory`)

// choose decides how a generation is sent.
func (c *chain) choose(name string) step {
	s := step{name: name, native: c.rng.IntN(3) > 0, protocol: 1 + c.rng.IntN(2), workers: c.rng.IntN(4)}
	s.sent, s.directory = filepath.Join(c.sides[c.from].Dir, name), c.sides[1-c.from].Dir
	parents := slices.DeleteFunc(slices.Clone(c.kept), func(g generation) bool { return g.apart > 0 })
	if len(parents) > 0 && c.rng.IntN(12) > 0 {
		parent := parents[max(0, len(parents)-1-c.rng.IntN(2)*c.rng.IntN(3))]
		s.parent = filepath.Join(c.sides[c.from].Dir, parent.name)
	}
	s.compressed = s.protocol == 2 && c.rng.IntN(2) == 0
	s.noData = s.native && c.rng.IntN(2) == 0
	return s
}

func (c *chain) snapshot(name string) error {
	side, err := os.Open(c.sides[c.from].Dir)
	check(c.t, err)
	defer side.Close()
	work, err := os.Open(filepath.Join(side.Name(), "work"))
	check(c.t, err)
	defer work.Close()
	return btrfs.Snapshot(work, side, name)
}

func (c *chain) delete(side *btrfstest.FS, name string) {
	dir, err := os.Open(side.Dir)
	check(c.t, err)
	btrfs.Unlock(dir, name)
	check(c.t, errors.Join(btrfs.Delete(dir, name), dir.Close()))
}

// turn lets the other side change what it received last.
func (c *chain) turn() {
	c.delete(c.sides[c.from], "work")
	c.from = 1 - c.from
	dir, err := os.Open(c.sides[c.from].Dir)
	check(c.t, err)
	defer dir.Close()
	last, err := os.Open(filepath.Join(dir.Name(), c.kept[len(c.kept)-1].name))
	check(c.t, err)
	defer last.Close()
	check(c.t, btrfs.SnapshotWritable(last, dir, "work"))
}

func (c *chain) stream() string { return filepath.Join(filepath.Dir(c.sides[0].Image), "stream") }

func (c *chain) send(s step) {
	arguments := []string{"btrfs", "send", "-q", "-f", c.stream(), "--proto", fmt.Sprint(s.protocol)}
	if s.compressed {
		arguments = append(arguments, "--compressed-data")
	}
	if s.noData {
		arguments = append(arguments, "--no-data")
	}
	if s.parent != "" {
		arguments = append(arguments, "-p", s.parent)
	}
	btrfstest.Run(c.t, append(arguments, s.sent)...)
}

// flaws are those of btrfs receive (6.2). It does not look by UUID for the parent that data is cloned of, lets what it makes inherit attributes
// of the root, takes set-id bits from what gets another owner, does not copy what cannot be cloned,
// sets no attribute that the kernel refuses at first, and changes nothing that is immutable or append-only in the parent.
var flaws = regexp.MustCompile(`clone: did not find source subvol|failed to clone extents|lsetxattr|Operation not permitted|: mode: want [2-7]|"(system.posix_acl_access|btrfs.compression)": want none`)

// receive receives a generation, and compares it with what was sent. btrfs receive may lose the time of the root, which an increment may
// leave as it is. What cannot be compressed there is no failure, and counted.
func (c *chain) receive(s step) (apart int, err error) {
	var ignored []string
	var result receive.Result
	if s.parent != "" && !rootTime(c.t, s.parent).Equal(rootTime(c.t, filepath.Join(s.directory, filepath.Base(s.parent)))) {
		ignored = []string{btrfstest.RootTime}
	}
	if s.native {
		if result, err = replay(c.stream(), s); err != nil {
			return 0, err
		}
	} else {
		ignored = []string{btrfstest.RootTime}
		said, err := exec.Command("btrfs", "receive", "-q", "-f", c.stream(), s.directory).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, said)
		}
	}
	diffs, err := btrfstest.Diff(s.sent, filepath.Join(s.directory, s.name), ignored...)
	if result.Uncompressed > 0 {
		all := len(diffs)
		diffs = slices.DeleteFunc(diffs, c.isUncompressed(s))
		apart = all - len(diffs)
	}
	if len(diffs) > 0 {
		err = fmt.Errorf("%d differences:\n%s", len(diffs), strings.Join(diffs[:min(len(diffs), 20)], "\n"))
	}
	return apart, err
}

func rootTime(t *testing.T, root string) time.Time {
	st, err := os.Stat(root)
	check(t, err)
	return st.ModTime()
}

var compressionDiffers = regexp.MustCompile(`^("(?:[^"\\]|\\.)*"): xattr "btrfs.compression": `)

// isUncompressed tells a difference that cannot but be: the file that was received has content without checksums since an earlier step.
func (c *chain) isUncompressed(s step) func(diff string) bool {
	return func(diff string) bool {
		found := compressionDiffers.FindStringSubmatch(diff)
		if found == nil {
			return false
		}
		path, err := strconv.Unquote(found[1])
		check(c.t, err)
		f, err := os.Open(filepath.Join(s.directory, s.name, path))
		check(c.t, err)
		defer f.Close()
		flags, err := btrfs.FlagsOf(f)
		check(c.t, err)
		return flags&btrfs.NoCowFlag != 0
	}
}

// replay lets Stream receive, with what is open for it.
func replay(path string, s step) (result receive.Result, err error) {
	stream, err := os.Open(path)
	if err != nil {
		return result, err
	}
	defer stream.Close()
	dir, err := os.Open(s.directory)
	if err != nil {
		return result, err
	}
	defer dir.Close()
	o := receive.Options{Workers: s.workers}
	if s.noData {
		o.Source = new(receive.Source)
		if o.Source.Snapshot, err = os.Open(s.sent); err != nil {
			return result, err
		}
		defer o.Source.Snapshot.Close()
		if s.parent != "" {
			if o.Source.Parent, err = os.Open(s.parent); err != nil {
				return result, err
			}
			defer o.Source.Parent.Close()
		}
	}
	return receive.Stream(context.Background(), dir, stream, o)
}
