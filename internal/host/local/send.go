package local

import (
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strconv"

	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/host"
	"btrfs-backup/transport"
)

// Send runs `btrfs send` and checks its output on the way to w.
func (d *Dir) Send(ctx context.Context, o host.SendOrder, w io.Writer) (summary sendstream.Summary, err error) {
	own, err := d.host.Format(ctx)
	if err != nil {
		return summary, err
	}
	rest := sendstream.NewRemainder(w, o.After)
	err = d.pipeFrom(ctx, o, own, false, func(r io.Reader) error {
		summary, err = sendstream.Copy(rest, r)
		return cmp.Or(err, rest.Close())
	})
	return summary, err
}

// Measure makes the same stream without data, for which no file's content is read.
func (d *Dir) Measure(ctx context.Context, o host.SendOrder) (bytes int64, err error) {
	own, err := d.host.Format(ctx)
	if err != nil {
		return 0, err
	}
	err = d.pipeFrom(ctx, o, own, true, func(r io.Reader) error {
		bytes, err = sendstream.Measure(r)
		return err
	})
	return bytes, err
}

// pipeFrom makes a stream that is read by read.
func (d *Dir) pipeFrom(ctx context.Context, o host.SendOrder, own format, noData bool, read func(io.Reader) error) error {
	if d.host.confine != nil {
		return d.sendOpened(ctx, o, own, noData, read)
	}
	var options []string
	if noData {
		options = append(options, "--no-data")
	}
	argv := append([]string{program}, sendArguments(d.status.Path, o, own, kernelProtocol(), options...)...)
	return d.host.pipeFrom(ctx, o.Verbose, argv, read)
}

// protocolOf gives the best protocol that the receiver, the program and the kernel all know.
func protocolOf(o host.SendOrder, program sendstream.Format, kernel int) int {
	return min(o.Format.Protocol, program.Protocol, kernel)
}

// sendArguments gives the arguments of the btrfs program that send from a directory, in the best format that the receiver,
// the program and the kernel all know.
func sendArguments(dir string, o host.SendOrder, program sendstream.Format, kernel int, options ...string) []string {
	arguments := []string{"send", verbosity(o.Verbose)}
	if protocol := protocolOf(o, program, kernel); protocol > 1 {
		arguments = append(arguments, "--proto", strconv.Itoa(protocol))
		if o.Format.Compressed && len(options) == 0 {
			arguments = append(arguments, "--compressed-data")
		}
	}
	arguments = append(arguments, options...)
	if o.Parent != "" {
		arguments = append(arguments, "-p", filepath.Join(dir, o.Parent))
	}
	return append(arguments, filepath.Join(dir, o.Snapshot))
}

func verbosity(verbose bool) string {
	if verbose {
		return "-vv"
	}
	return "-q"
}

// pipeFrom runs a program whose output is read by read. The program is ended when read fails.
func (h *Host) pipeFrom(ctx context.Context, verbose bool, argv []string, read func(io.Reader) error) error {
	r, w, err := transport.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := h.run(verbose).Start(ctx, transport.Command{Argv: argv, Stdout: w})
	w.Close()
	if err != nil {
		return err
	}
	readErr := read(r)
	if readErr == nil {
		return p.Wait()
	}
	return blame(p, readErr)
}

// process is a started program, here or elsewhere.
type process interface {
	Kill()
	Wait() error
}

// blame picks the error to tell after reading failed: a program that failed by itself knows best why its output ends.
func blame(p process, readErr error) error {
	if !endedEarly(readErr) {
		p.Kill()
		_ = p.Wait() // it was killed; the reason is readErr
		return readErr
	}
	if err := p.Wait(); err != nil {
		return err
	}
	return readErr
}

// endedEarly tells that the stream broke off, or never began.
func endedEarly(err error) bool {
	return errors.Is(err, sendstream.ErrTruncated) || errors.Is(err, sendstream.ErrEmpty)
}
