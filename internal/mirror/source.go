package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/mirror/options"
	"github.com/btrfs-backup/btrfs-backup/internal/replace"
	"github.com/btrfs-backup/btrfs-backup/internal/rsh"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// SourceOptions are those of a Source.
type SourceOptions struct {
	Log    *slog.Logger
	Marker string // path within the source of a plain file that must be there; "" for none
	// Frozen makes the copy a snapshot where the source is a subvolume on the folder's filesystem: it changes only by other
	// programs that have come to their end.
	Frozen bool
	// Incomplete is a message about files that are missing in the source; "" if none are.
	Incomplete string
	MultiFS    bool // also copy filesystems that are mounted in the source
	// Tunnel reaches the daemon of a module; nil for a daemon that is reached directly.
	Tunnel Tunnel
}

// Source is an engine.Source: a directory on a host, or one of an rsync daemon, which is copied as it stands.
type Source struct {
	host host.Host // nil for a daemon
	path string    // there, absolute and clean
	url  string    // of the daemon's directory: rsync://[user@]host[:port]/module[/directory]
	// origin tells its backups from those of other sources.
	origin tree.Origin
	at     btrfs.DirID // on this machine
	SourceOptions
}

var (
	_ engine.Source = (*Source)(nil)
	_ engine.Part   = (*Source)(nil)
	_ engine.Placed = (*Source)(nil)
)

// NewSource names the directory at an absolute path. A host other than this machine must be rsh.Reachable.
func NewSource(h host.Host, directory string, o SourceOptions) *Source {
	at := path.Clean(directory)
	return &Source{host: h, path: at, origin: host.OriginOf(h, at), SourceOptions: o}
}

// NewModule names a directory of an rsync daemon, rsync://[user@]host[:port]/module[/directory].
func NewModule(url string, o SourceOptions) *Source {
	url = strings.TrimRight(url, "/")
	return &Source{url: url, origin: tree.Origin{Source: engine.PlaceName(withoutUser(url))}, SourceOptions: o}
}

func (s *Source) String() string {
	if s.host == nil {
		return engine.PlaceName(s.url)
	}
	return engine.PlaceName(s.host.String() + s.path)
}

// withoutUser leaves the user out of rsync://user@host/module.
func withoutUser(url string) string {
	daemon, rest := cutDaemon(url)
	if at := strings.LastIndexByte(daemon, '@'); at >= 0 {
		daemon = rsyncScheme + daemon[at+1:]
	}
	return daemon + rest
}

func (s *Source) isLocal() bool { return s.host != nil && s.host.String() == "" }

const notMounted = "is the source mounted?"

// Open fails unless the source is a directory that holds something, and its marker.
func (s *Source) Open(ctx context.Context) error {
	err := s.check(ctx)
	if err != nil || !s.isLocal() {
		return err
	}
	dir, err := s.host.Open(ctx, s.path)
	if err != nil {
		return fmt.Errorf("source %s: %w", s, err)
	}
	defer dir.Close()
	s.at = dir.Status().DirID
	return s.checkCurrent(ctx, dir)
}

// checkCurrent refuses what a restore replaced.
func (s *Source) checkCurrent(ctx context.Context, dir *host.Dir) error {
	of := dir.Status()
	if !of.Btrfs || !of.IsRoot || replace.CheckCurrent(of.Subvolume, s.path, btrfs.Listing{}) == nil {
		return nil
	}
	content, err := dir.List(ctx)
	if err == nil {
		err = replace.CheckCurrent(of.Subvolume, s.path, content.Listing)
	}
	if err != nil {
		return fmt.Errorf("source %s: %w", s, err)
	}
	return nil
}

// At tells where the source lies, if it lies on this machine.
func (s *Source) At() engine.Position { return engine.Position{DirID: s.at} }

func (s *Source) check(ctx context.Context) error {
	check := s.checkThere
	if s.isLocal() {
		check = s.checkHere
	}
	if s.Marker != "" && !filepath.IsLocal(s.Marker) {
		return fmt.Errorf("source %s: the marker %s does not lie in it", s, s.Marker)
	}
	if err := check(ctx); err != nil {
		return fmt.Errorf("source %s: %w", s, err)
	}
	return nil
}

func (s *Source) checkHere(context.Context) error {
	dir, err := os.Open(s.path)
	if err != nil {
		return refusal(hint.WithoutPath(err, s.path))
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return errEmpty
	case err != nil:
		return refusal(hint.WithoutPath(err, s.path))
	case s.Marker == "":
		return nil
	}
	info, err := os.Stat(filepath.Join(s.path, s.Marker))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !info.Mode().IsRegular() {
		return s.noMarker()
	}
	return nil
}

var errTwoOthers = hint.New(errors.New("rsync cannot copy between two other machines"), "run btrfs-backup on one of the two")

var errEmpty = hint.New(errors.New("the directory is empty"), notMounted)

func (s *Source) noMarker() error {
	return hint.Newf(fmt.Errorf("its marker %s is missing", s.Marker),
		"%s If it is, create the marker, an empty file", notMounted)
}

// refusal adds to the reason why a source cannot be read what to do about it.
func refusal(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hint.New(err, notMounted)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return hint.New(err, "run as root (sudo), or as the owner of the directory")
	case errors.Is(err, unix.ENOTDIR):
		return hint.New(err, "a source is a directory: name the one that holds this file")
	}
	return err
}

// checkThere lets rsync list what checkHere looks at.
func (s *Source) checkThere(ctx context.Context) error {
	link, err := s.link(ctx)
	if err != nil {
		return err
	}
	defer link.Close()
	entries := 0 // with the directory itself
	err = s.list(ctx, link, s.argument(link)+"/", func(byte) { entries++ })
	if err != nil {
		return refusal(err)
	}
	if entries <= 1 {
		return errEmpty
	}
	if s.Marker == "" {
		return nil
	}
	found := false
	err = s.list(ctx, link, s.argument(link)+"/"+options.Literal(s.Marker), func(kind byte) { found = kind == '-' })
	if errors.Is(err, fs.ErrNotExist) || err == nil && !found {
		return s.noMarker()
	}
	return err
}

// list tells the type of each file that rsync lists, as the first letter of its mode.
func (s *Source) list(ctx context.Context, link *rsh.Link, what string, found func(kind byte)) error {
	args := append([]string{"--list-only", "--dirs"}, s.reach(link)...)
	_, err := runRsync(ctx, program{log: s.Log, args: append(args, "--", what), link: link, source: s, line: func(line string) {
		if mode, _, ok := strings.Cut(line, " "); ok && len(mode) >= 10 && strings.ContainsRune("-dlcbps", rune(mode[0])) {
			found(mode[0])
		}
	}})
	return err
}

// link reaches the machine of the source.
func (s *Source) link(ctx context.Context) (*rsh.Link, error) {
	switch {
	case s.host == nil:
		return s.Tunnel.open(ctx)
	case s.isLocal():
		return &rsh.Link{}, nil
	}
	return linkTo(ctx, s.host)
}

func linkTo(ctx context.Context, h host.Host) (*rsh.Link, error) {
	far, ok := h.(rsh.Reachable)
	if !ok {
		return nil, fmt.Errorf("rsync cannot reach %s", h)
	}
	return far.Rsync(ctx)
}

// reach are the options with which rsync reaches the source.
func (s *Source) reach(link *rsh.Link) []string {
	switch {
	case s.host == nil:
		return append([]string{"--no-motd"}, link.Options...)
	case s.isLocal():
		return nil
	}
	return link.Options
}

// argument names the source as rsync takes it, without the slash at the end. Elsewhere rsync takes it for a pattern: -s keeps
// it from a shell, not from that.
func (s *Source) argument(link *rsh.Link) string {
	switch {
	case s.host == nil:
		daemon, rest := cutDaemon(s.url)
		module, dir, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		if dir != "" {
			module += "/" + undashed(options.Literal(dir))
		}
		return daemon + "/" + module
	case s.isLocal():
		return strings.TrimSuffix(s.path, "/")
	}
	return link.Prefix + options.Literal(strings.TrimSuffix(s.path, "/"))
}

// root is the path of the source in rsync's messages.
func (s *Source) root() string {
	if s.host != nil {
		return s.path
	}
	_, rest := cutDaemon(s.url)
	_, dir, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	return "/" + dir
}

// missing adds the message about files that are missing in the source.
func (s *Source) missing(m *IncompleteError) *IncompleteError {
	if s.Incomplete == "" {
		return m
	}
	return m.with(s.Incomplete)
}

// Omitted gives the directories in the source that rsync leaves out: mounts and subvolumes. On another machine they are not
// looked for: rsync needs no program of ours there.
func (s *Source) Omitted(ctx context.Context) ([]string, error) {
	if !s.isLocal() {
		return nil, nil
	}
	mounts, err := s.leftOut()
	var omitted []string
	for _, m := range mounts {
		omitted = append(omitted, m.Path)
	}
	if s.MultiFS {
		return omitted, err
	}
	dir, openErr := s.host.Open(ctx, s.path)
	if openErr != nil {
		return omitted, cmp.Or(err, openErr)
	}
	defer dir.Close()
	if dir.Status().Btrfs {
		nested, nestedErr := dir.Nested(ctx)
		for _, n := range nested {
			if !n.IsSnapshotOf(dir.Status().Subvolume) {
				omitted = append(omitted, n.Path)
			}
		}
		err = cmp.Or(err, nestedErr)
	}
	slices.Sort(omitted)
	return slices.Compact(omitted), err
}

// leftOut gives the mounts in the source that are not copied: all on directories, or with MultiFS those that cannot be looked at.
func (s *Source) leftOut() ([]host.Mount, error) {
	if !s.isLocal() {
		return nil, nil
	}
	mounts, err := host.MountsIn(s.path)
	return slices.DeleteFunc(mounts, func(m host.Mount) bool { return m.File || s.MultiFS && !m.Private }), err
}

// borders keep rsync from what is mounted in the source: --one-file-system passes over mounts of the same filesystem, and what
// nobody else may look at would make each backup incomplete. The directories themselves stay, to be mounted on.
func (s *Source) borders() (filters []string, err error) {
	mounts, err := s.leftOut()
	for _, m := range mounts {
		if m.Private {
			filters = append(filters, options.Exclude("/"+options.Literal(m.Path)))
		} else {
			filters = append(filters, options.Exclude("/"+options.Pattern(m.Path)+"/*"))
		}
	}
	return filters, err
}

// Within gives the subvolume that the source is a directory of.
func (s *Source) Within(ctx context.Context) string {
	if s.host == nil {
		return ""
	}
	for at := s.path; ; at = path.Dir(at) {
		dir, err := s.host.Open(ctx, at)
		if err != nil {
			return ""
		}
		status := dir.Status()
		dir.Close()
		switch {
		case status.Btrfs && status.IsRoot:
			return engine.PlaceName(s.host.String() + at)
		case !status.Btrfs, at == "/": // where a directory is mounted by itself
			return ""
		}
	}
}
