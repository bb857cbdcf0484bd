package local

import (
	"context"
	"errors"
	"io"
	"regexp"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// receiveByProgram runs `btrfs receive` in the directory. It trusts the stream.
func (d *Dir) receiveByProgram(ctx context.Context, o host.ReceiveOrder, stream io.Reader) error {
	r, w, err := transport.Pipe()
	if err != nil {
		return err
	}
	if err := d.mustBeAt(d.status.Path); err != nil {
		return errors.Join(err, r.Close(), w.Close())
	}
	command := transport.Command{Argv: []string{program, "receive", verbosity(o.Verbose), d.status.Path}, Stdin: r}
	p, err := d.host.run(o.Verbose).Start(ctx, command)
	r.Close()
	if err != nil {
		w.Close()
		return err
	}
	_, copyErr := sendstream.Copy(sendstream.NewRenamer(w, btrfs.Incoming(o.Name)), stream)
	w.Close()
	if copyErr != nil && !errors.As(copyErr, new(*sendstream.WriteError)) { // it would wait, or take what came for all
		p.Kill()
		_ = p.Wait() // it was killed
		return copyErr
	}
	err = p.Wait()
	if exit := new(transport.ExitError); errors.As(err, &exit) {
		exit.Stderr = attributeValue.ReplaceAllString(exit.Stderr, "$1$2")
	}
	if err == nil {
		err = copyErr
	}
	return err
}

// attributeValue is what btrfs receive tells of an attribute besides its name. It may be long, and not printable.
var attributeValue = regexp.MustCompile(`(?s)^(lsetxattr .*? (?:btrfs|security|system|trusted|user)\.[^=]*)=.*( failed: )`)
