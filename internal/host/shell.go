package host

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/lock"
	"btrfs-backup/transport"
)

// ShellOptions are how a Shell works.
type ShellOptions struct {
	Sudo bool // commands run as root by `sudo -n`
	Log  *slog.Logger
}

// Shell is a machine with nothing of ours: an sshd, a POSIX shell, the usual commands and btrfs-progs. Each operation is one
// session, or with directory trees a few.
//
// What `btrfs subvolume list` does not tell is zero: of subvolumes DirID, unless they lie in the listed directory, SentIn and
// Created. ChangedIn may be higher than elsewhere, by the transactions that snapshots are made in. A subvolume whose name has
// a line in it that looks like one of that list is an error. Backups that another process keeps there to be resumed are
// listed like any other leftover.
type Shell struct {
	ssh     *transport.SSH
	options ShellOptions

	asked  sync.Mutex // guards format
	format *shellFormat
}

var _ Host = (*Shell)(nil)

// NewShell gives a machine that is reached by ssh. The caller closes ssh.
func NewShell(ssh *transport.SSH, o ShellOptions) *Shell {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Shell{ssh: ssh, options: o}
}

func (s *Shell) String() string { return urlOf(s.ssh) }

// Open describes the directory at path. As it stays closed over there, each operation makes sure that the path still leads
// to it.
func (s *Shell) Open(ctx context.Context, path string) (Dir, error) {
	a, err := s.run(ctx, "opening", scriptOpen, nil, path)
	if err != nil {
		return nil, at("open", path, err)
	}
	place, err := readPlace(&a, path)
	if err != nil {
		return nil, at("open", path, err)
	}
	return &shellDir{host: s, place: place}, nil
}

// List opens and lists the directory at path.
func (s *Shell) List(ctx context.Context, path string) (Status, Content, error) {
	a, err := s.run(ctx, "listing", scriptList, nil, path, lock.LedgerFile, originsFile)
	if err != nil {
		return Status{}, Content{}, at("open", path, err)
	}
	place, err := readPlace(&a, path)
	if err != nil {
		return Status{}, Content{}, at("open", path, err)
	}
	if !place.Btrfs {
		return place.Status, Content{}, at("list", path, btrfs.ErrNotBtrfs)
	}
	content, err := readContent(&a, place)
	return place.Status, content, at("list", path, err)
}

// MkdirAll makes a directory and those above it that are missing.
func (s *Shell) MkdirAll(ctx context.Context, path string) error {
	_, err := s.run(ctx, "mkdir", scriptMkdirAll, nil, path)
	return at("mkdir", path, told(err))
}

// shellFormat is what the btrfs program and the kernel over there can do.
type shellFormat struct {
	program sendstream.Format
	kernel  int
}

// Format asks the btrfs program, once.
func (s *Shell) Format(ctx context.Context) (sendstream.Format, error) {
	f, err := s.formats(ctx)
	return f.program, err
}

func (s *Shell) formats(ctx context.Context) (shellFormat, error) {
	s.asked.Lock()
	defer s.asked.Unlock()
	if s.format != nil {
		return *s.format, nil
	}
	a, err := s.run(ctx, "btrfs --version", scriptFormat, nil, protocolFile)
	if err != nil {
		return shellFormat{}, err
	}
	version, protocol := a.next(), a.next()
	if a.err != nil {
		return shellFormat{}, a.err
	}
	f := shellFormat{kernel: 1}
	if f.program, err = formatOf(version); err != nil {
		return f, err
	}
	if n, err := strconv.Atoi(strings.TrimSpace(protocol)); err == nil {
		f.kernel = n
	}
	s.format = &f
	return f, nil
}

// at names the path in an error that does not.
func at(operation, path string, err error) error {
	var there *fs.PathError
	if err == nil || errors.As(err, &there) {
		return err
	}
	return &fs.PathError{Op: operation, Path: path, Err: err}
}
