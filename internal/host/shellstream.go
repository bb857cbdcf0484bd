package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/lock"
	"btrfs-backup/transport"
)

// Send runs `btrfs send` over there and checks its output here.
func (d *shellDir) Send(ctx context.Context, o SendOrder, w io.Writer) (summary sendstream.Summary, err error) {
	rest := sendstream.NewRemainder(w, o.After)
	err = d.pipeFrom(ctx, o, func(r io.Reader) error {
		summary, err = sendstream.CopyAllowed(rest, r, foreign())
		return cmp.Or(err, rest.Close())
	})
	return summary, err
}

// Measure runs `btrfs send --no-data` over there.
func (d *shellDir) Measure(ctx context.Context, o SendOrder) (size int64, err error) {
	err = d.pipeFrom(ctx, o, func(r io.Reader) error {
		size, err = sendstream.Measure(r)
		return err
	}, "--no-data")
	return size, err
}

// pipeFrom runs a sender whose output is read by read. It is ended when read fails.
func (d *shellDir) pipeFrom(ctx context.Context, o SendOrder, read func(io.Reader) error, options ...string) error {
	own, err := d.host.formats(ctx)
	if err != nil {
		return err
	}
	arguments := sendArguments(d.place.Path, o, own.program, own.kernel, options...)
	script, err := d.host.start(ctx, "btrfs send", scriptBtrfs, d.arguments(arguments...)...)
	if err != nil {
		return err
	}
	_ = script.session.Stdin.Close() // it reads nothing
	if readErr := read(&countedReader{script.out, o.Wire}); readErr != nil {
		return blame(script, readErr)
	}
	return script.Wait()
}

// countedReader tells of what is read.
type countedReader struct {
	io.Reader
	count func(int64)
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.count != nil {
		r.count(int64(n))
	}
	return n, err
}

// countedWriter tells of what is written.
type countedWriter struct {
	io.Writer
	count func(int64)
}

func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.count != nil {
		w.count(int64(n))
	}
	return n, err
}

// shellReceiver is one run of `btrfs receive` over there.
type shellReceiver struct {
	io.Writer
	d       *shellDir
	name    string
	script  *remoteScript
	process string // its number
	id      uint64 // of what was received
	ended   bool
}

// Receive runs `btrfs receive` over there.
func (d *shellDir) Receive(ctx context.Context, o ReceiveOrder) (Receiver, error) {
	hidden := btrfs.Incoming(o.Name)
	script, err := d.host.start(ctx, "btrfs receive", scriptReceive, d.arguments(hidden, o.Name, verbosity(o.Verbose))...)
	if err != nil {
		return nil, err
	}
	kind, _ := script.field()
	second, err := script.field() // the name that is taken, or the number of the process
	if err != nil || kind != "" {
		_ = script.session.Stdin.Close() // it ended
		waitErr := script.Wait()
		if errors.Is(waitErr, fs.ErrExist) {
			return nil, inTheWay(d.pathOf(second), kind)
		}
		return nil, at("receiving", d.pathOf(o.Name), cmp.Or(waitErr, err, errIncomplete))
	}
	counted := &countedWriter{script.session.Stdin, o.Wire}
	renamed := sendstream.NewRenamer(transport.Limit(ctx, counted, o.Limit), hidden)
	return &shellReceiver{Writer: renamed, d: d, name: o.Name, script: script, process: second}, nil
}

func (r *shellReceiver) Close(context.Context) (btrfs.Subvolume, error) {
	r.ended = true
	_ = r.script.session.Stdin.Close() // the end of the session tells more
	out, readErr := io.ReadAll(io.LimitReader(r.script.out, maxAnswer))
	if err := cmp.Or(r.script.Wait(), readErr); err != nil {
		return btrfs.Subvolume{}, err
	}
	s, err := r.d.described(&printed{rest: out}, btrfs.Incoming(r.name))
	r.id = s.ID
	return s, err
}

// Commit gives the backup its name and records its origin.
func (r *shellReceiver) Commit(ctx context.Context, origin btrfs.UUID) error {
	d := r.d
	a, err := d.host.run(ctx, "renaming", scriptCommit, nil,
		d.arguments(btrfs.Incoming(r.name), r.name, fmt.Sprint(r.id), lock.LedgerFile, originsFile)...)
	if err != nil {
		return at("renaming", d.pathOf(btrfs.Incoming(r.name)), told(err))
	}
	d.host.options.Log.Debug("renamed " + d.pathOf(r.name))
	content, err := readContent(&a, d.place)
	if err != nil {
		return err
	}
	origins, err := ParseOrigins(content.Origins)
	if err != nil {
		return BadOrigins(d.place.Path, err)
	}
	record, changed, err := origins.add(r.name, origin, content.Listing)
	if err != nil || !changed {
		return err
	}
	return d.replaceFile(ctx, originsFile, record)
}

// Abort ends the session, waits for the end of the program over there, and deletes what it received.
func (r *shellReceiver) Abort(ctx context.Context) error {
	if !r.ended {
		r.ended = true
		r.script.Kill()
		_ = r.script.Wait() // it was killed
	}
	hidden := btrfs.Incoming(r.name)
	_, err := r.d.host.run(ctx, "deleting", scriptAbort, nil, r.d.arguments(hidden, r.process)...)
	return at("deleting subvolume", r.d.pathOf(hidden), told(err))
}

// errorOf joins errors; a single one stays as it is.
func errorOf(errs ...error) error {
	joined := errors.Join(errs...)
	if several, ok := joined.(interface{ Unwrap() []error }); ok && len(several.Unwrap()) == 1 {
		return several.Unwrap()[0]
	}
	return joined
}
