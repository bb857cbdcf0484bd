package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
)

func (h *Host) Open(ctx context.Context, path string) (*host.Dir, error) {
	status, err := protocol.Open.Call(ctx, h, protocol.Dir{Path: path})
	if err != nil {
		return nil, err
	}
	d := &dir{h, status}
	return &host.Dir{
		Folder:    d,
		Snapshots: d,
		Backups:   d,
		Files:     d,
		Sets:      d,
		Past:      d,
		Healing:   d,
		Contents:  d,
		Relinker:  d,
		Records:   d,
		Restorer:  d,
		Space:     d,
		Loose:     d,

		Attributed: d,
	}, nil
}

func (h *Host) List(ctx context.Context, path string) (host.Status, host.Content, error) {
	return h.list(ctx, protocol.Dir{Path: path})
}

func (h *Host) list(ctx context.Context, dir protocol.Dir) (host.Status, host.Content, error) {
	reply, err := protocol.List.Call(ctx, h, dir)
	if err != nil {
		return host.Status{}, host.Content{}, err
	}
	content, err := h.content(dir.Path, reply)
	return reply.Status, content, err
}

// content puts together what was listed.
func (h *Host) content(path string, reply protocol.ListReply) (host.Content, error) {
	c := reply.Content
	var err error
	if c.Listing, err = reply.Listing.Unpack(); err != nil {
		return host.Content{}, fmt.Errorf("%s: listing %s: %w", h, path, err)
	}
	return c, nil
}

func (h *Host) MkdirAll(ctx context.Context, path string) error {
	_, err := protocol.Mkdir.Call(ctx, h, path)
	return err
}

func (h *Host) StockFormat(ctx context.Context) (sendstream.Format, error) {
	h.mu.Lock()
	known := h.format
	h.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	f, err := protocol.Format.Call(ctx, h, protocol.Nothing{})
	if err != nil {
		return f, err
	}
	h.mu.Lock()
	h.format = &f
	h.mu.Unlock()
	return f, nil
}

// dir is a directory that the agent opens for each call.
type dir struct {
	host   *Host
	status host.Status
}

func (d *dir) Status() host.Status { return d.status }
func (d *dir) name() protocol.Dir {
	return protocol.Dir{Path: d.status.Path, DirID: d.status.DirID}
}
func (d *dir) named(name string) protocol.NameCall {
	return protocol.NameCall{Dir: d.name(), Name: name}
}

// Close gives up the locks on the directory.
func (d *dir) Close() error {
	var errs []error
	for _, l := range d.host.locksOn(d) {
		errs = append(errs, l.drop()())
	}
	return errors.Join(errs...)
}

func (d *dir) List(ctx context.Context) (host.Content, error) {
	_, content, err := d.host.list(ctx, d.name())
	return content, err
}

func (d *dir) Nested(ctx context.Context) ([]host.Nested, error) {
	return protocol.Nested.Call(ctx, d.host, d.name())
}

func (d *dir) Changed(ctx context.Context, since btrfs.Subvolume, except uint64) (bool, error) {
	return protocol.Changed.Call(ctx, d.host, protocol.ChangedCall{Dir: d.name(), Since: since, Except: except})
}

func (d *dir) Take(ctx context.Context, source string, uuid btrfs.UUID, name string) (btrfs.Subvolume, error) {
	return protocol.Take.Call(ctx, d.host, protocol.TakeCall{Dir: d.name(), Source: source, UUID: uuid, Name: name})
}

func (d *dir) Rmdir(ctx context.Context, path string) error {
	_, err := protocol.Rmdir.Call(ctx, d.host, protocol.RmdirCall{Dir: d.name(), Remove: path})
	return err
}

func (d *dir) Delete(ctx context.Context, names []string, o host.DeleteOptions) ([]string, error) {
	reply, err := protocol.Delete.Call(ctx, d.host, protocol.DeleteCall{Dir: d.name(), Names: names, Options: o})
	if err != nil {
		return nil, err
	}
	return reply.Unpack()
}

func (d *dir) WriteLedger(ctx context.Context, content []byte) error {
	_, err := protocol.Ledger.Call(ctx, d.host, protocol.LedgerCall{Dir: d.name(), Content: content})
	return err
}

func (d *dir) Link(ctx context.Context, name, target string) error {
	_, err := protocol.Link.Call(ctx, d.host, protocol.LinkCall{Dir: d.name(), Name: name, Target: target})
	return err
}

func (d *dir) Measure(ctx context.Context, o host.SendOrder) (int64, error) {
	return protocol.Measure.Call(ctx, d.host, protocol.SendCall{Dir: d.name(), Order: o})
}
