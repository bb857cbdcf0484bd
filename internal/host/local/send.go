package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"

	"golang.org/x/sys/unix"
)

// Send lets the kernel send, and checks what it makes on the way to w.
func (d *Dir) Send(ctx context.Context, o host.SendOrder, w io.Writer) (summary sendstream.Summary, err error) {
	rest := sendstream.NewRemainder(w, o.After)
	err = d.makeStream(ctx, o, false, func(r io.Reader) error {
		summary, err = sendstream.Copy(rest, failpoint.Stream(r))
		return cmp.Or(err, rest.Close())
	})
	if err == nil {
		d.host.tell(o.Verbose, fmt.Sprintf("sent %s: %d commands, %d bytes", filepath.Join(d.status.Path, o.Snapshot), summary.Commands, summary.Bytes))
	}
	return summary, err
}

// Measure makes the same stream without data, for which no file's content is read.
func (d *Dir) Measure(ctx context.Context, o host.SendOrder) (bytes int64, err error) {
	err = d.makeStream(ctx, o, true, func(r io.Reader) error {
		bytes, err = sendstream.Measure(r)
		return err
	})
	return bytes, err
}

// makeStream lets the kernel make a stream that is read by read. What is sent is opened here, beneath the directory: a path may
// lead elsewhere by now.
func (d *Dir) makeStream(ctx context.Context, o host.SendOrder, noData bool, read func(io.Reader) error) error {
	snapshot, err := d.openSubvolume(o.Snapshot)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	options := sendOptions(o.Format, kernelProtocol(), noData || o.Format.NoData)
	if o.Parent != "" {
		if options.Parent, err = d.openParent(o.Parent); err != nil {
			return err
		}
		defer options.Parent.Close()
	}
	d.host.tell(o.Verbose, describeSend(snapshot, options))
	return d.host.sendByKernel(ctx, snapshot, options, read)
}

// sendOptions gives the best format that the receiver, this program and the kernel all know.
func sendOptions(receiver sendstream.Format, kernel int, noData bool) btrfs.SendOptions {
	protocol := min(receiver.Protocol, sendstream.MaxProtocol, kernel)
	return btrfs.SendOptions{Protocol: protocol, Compressed: protocol > 1 && receiver.Compressed && !noData, NoData: noData}
}

// describeSend tells what the kernel is asked for.
func describeSend(snapshot *os.File, o btrfs.SendOptions) string {
	text := fmt.Sprintf("the kernel sends %s: protocol %d", snapshot.Name(), max(o.Protocol, 1))
	if o.Compressed {
		text += ", compressed data as it is"
	}
	if o.NoData {
		text += ", without data"
	}
	if o.Parent != nil {
		text += ", upon " + o.Parent.Name()
	}
	return text
}

// tell logs what is debugging output unless the user asked for it.
func (h *Host) tell(verbose bool, text string) {
	h.log.Log(context.Background(), level(verbose), text)
}

func level(verbose bool) slog.Level {
	if verbose {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// openSubvolume opens a subvolume in the directory.
func (d *Dir) openSubvolume(name string) (*os.File, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is not the name of a subvolume", name)
	}
	sub, err := btrfs.OpenDirAt(d.dir, name)
	if err != nil {
		return nil, err
	}
	if err := btrfs.CheckSubvolume(sub); err != nil {
		sub.Close()
		return nil, &os.PathError{Op: "open", Path: sub.Name(), Err: err}
	}
	return sub, nil
}

// openParent opens what is built upon. Its errors are those of a parent, in place of which another one may be opened.
func (d *Dir) openParent(name string) (*os.File, error) {
	parent, err := d.openSubvolume(name)
	var errno unix.Errno
	if errors.As(err, &errno) {
		return nil, &btrfs.SendError{What: "opening the parent " + filepath.Join(d.status.Path, name), Errno: errno}
	}
	return parent, err
}
