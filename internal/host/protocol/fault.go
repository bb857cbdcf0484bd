package protocol

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/receive"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport"
	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// fault is what of an error travels beside its text, for errors.Is and errors.As at the other end.
type fault struct {
	Errnos []int                `cbor:"errnos,omitempty"`
	Names  []string             `cbor:"names,omitempty"` // of sentinels
	Exit   *transport.ExitError `cbor:"exit,omitempty"`
	Held   *lock.HeldError      `cbor:"held,omitempty"`
	Send   *sendFault           `cbor:"send,omitempty"`
	Apply  *applyFault          `cbor:"apply,omitempty"`

	Gone *tree.TooManyGoneError `cbor:"gone,omitempty"`
}

// sendFault is a btrfs.SendError.
type sendFault struct {
	What  string `cbor:"what"`
	Errno int    `cbor:"errno"`
}

// applyFault is a receive.Error, without its cause.
type applyFault struct {
	Number  int64                  `cbor:"number"`
	Command sendstream.CommandType `cbor:"command"`
	Path    string                 `cbor:"path"`
	Xattr   string                 `cbor:"xattr,omitempty"`
}

// sentinels are known by the same names at both ends.
var sentinels = map[string]error{
	"empty":           sendstream.ErrEmpty,
	"truncated":       sendstream.ErrTruncated,
	"corrupt":         sendstream.ErrCorrupt,
	"unsupported":     sendstream.ErrUnsupported,
	"differs":         sendstream.ErrRestartDiffers,
	"prefix-differs":  sendstream.ErrPrefixDiffers,
	"no-parent":       receive.ErrNoParent,
	"not-btrfs":       btrfs.ErrNotBtrfs,
	"not-subvolume":   btrfs.ErrNotSubvolume,
	"not-link":        host.ErrNotLink,
	"not-mounted":     tree.ErrNotMounted,
	"no-links":        tree.ErrNoLinks,
	"no-manifest":     tree.ErrNoManifest,
	"wrong-source":    heal.ErrWrongSource,
	"no-device-write": heal.ErrNoDeviceWrite,
	"relocating":      heal.ErrRelocating,
	"bad-records":     files.ErrMalformed,
	"bad-content":     object.ErrBadContent,
	"unchanged":       tree.ErrUnchanged,
	"disconnected":    transport.ErrDisconnected,
	"exists":          fs.ErrExist,
	"not-exist":       fs.ErrNotExist,
	"permission":      fs.ErrPermission,
}

// lastErrno is beyond those of Linux (asm-generic/errno.h).
const lastErrno = 134

// ToWire gives an error the form in which it travels.
func ToWire(err error) error {
	if err == nil {
		return nil
	}
	var f fault
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			f.Names = append(f.Names, name)
		}
	}
	for errno := syscall.Errno(1); errno < lastErrno; errno++ {
		if errors.Is(err, errno) {
			f.Errnos = append(f.Errnos, int(errno))
		}
	}
	errors.As(err, &f.Exit)
	errors.As(err, &f.Held)
	if refused := new(btrfs.SendError); errors.As(err, &refused) {
		f.Send = &sendFault{refused.What, int(refused.Errno)}
	}
	if c := new(receive.Error); errors.As(err, &c) {
		f.Apply = &applyFault{c.Number, c.Command, c.Path, c.Xattr}
	}
	errors.As(err, &f.Gone)
	e := &wire.Error{Text: err.Error(), Advice: hint.Of(err)}
	if detail, encodeErr := wire.Encode(f); encodeErr == nil {
		e.Detail = detail
	}
	return e
}

// farError is an error of the far side with what errors.Is and errors.As look for.
type farError struct {
	far    *wire.Error
	causes []error
}

func (e *farError) Error() string   { return e.far.Text }
func (e *farError) Hint() string    { return e.far.Advice }
func (e *farError) Unwrap() []error { return e.causes }

// FromWire gives an error of a call back what ToWire packed.
func FromWire(err error) error {
	var far *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wire.ErrBroken):
		return Disconnected(err)
	case !errors.As(err, &far):
		return err
	}
	var f fault
	if far.Detail.Decode(&f) != nil {
		return err
	}
	e := &farError{far: far}
	for _, name := range f.Names {
		if sentinel, ok := sentinels[name]; ok {
			e.causes = append(e.causes, sentinel)
		}
	}
	for _, errno := range f.Errnos {
		e.causes = append(e.causes, syscall.Errno(errno))
	}
	if f.Exit != nil {
		e.causes = append(e.causes, f.Exit)
	}
	if f.Held != nil {
		e.causes = append(e.causes, f.Held)
	}
	if f.Send != nil {
		e.causes = append(e.causes, &btrfs.SendError{What: f.Send.What, Errno: syscall.Errno(f.Send.Errno)})
	}
	if c := f.Apply; c != nil {
		e.causes = append(e.causes, &receive.Error{Number: c.Number, Command: c.Command, Path: c.Path, Xattr: c.Xattr,
			Err: errors.Join(slices.Clone(e.causes)...)})
	}
	if f.Gone != nil {
		e.causes = append(e.causes, f.Gone)
	}
	return e
}

// Disconnected makes an error a transport.ErrDisconnected.
func Disconnected(err error) error { return disconnected{err} }

type disconnected struct{ error }

func (e disconnected) Unwrap() []error { return []error{e.error, transport.ErrDisconnected} }
