package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"

	"github.com/gofrs/flock"
)

// Opened is a disk that is mounted. Close must be called.
type Opened struct {
	disk    Disk
	options Options
	use     *flock.Flock // shared while the disk is used
}

// newOpened gives a disk that nothing was done to yet.
func (d Disk) newOpened(o Options) *Opened {
	return &Opened{disk: d, options: o, use: o.place(d.Name).use()}
}

// Open unlocks and mounts the disk where that was not done. What others mounted or unlocked stays so after Close. The error is
// an AbsentError if the disk is not there. After an error nothing is left open.
func (d Disk) Open(ctx context.Context, options Options) (*Opened, error) {
	o := d.newOpened(options)
	err := options.place(d.Name).alone(ctx, func() error { return o.open(ctx) })
	if absent := (*AbsentError)(nil); err != nil && !errors.As(err, &absent) {
		err = fmt.Errorf("disk %s: %w", d.Name, err)
	}
	if err != nil {
		_ = o.use.Close()
		return nil, err
	}
	return o, nil
}

func (o *Opened) open(ctx context.Context) error {
	n, err := o.takeOver(ctx)
	if err != nil {
		return err
	}
	if err := o.use.RLock(); err != nil {
		return err
	}
	if err := o.bring(ctx, &n); err != nil {
		n.Disk.Eject = false
		return errors.Join(err, o.closeUnlessUsed(context.WithoutCancel(ctx), n))
	}
	return nil
}

// takeOver reads what was opened earlier. What a run left open that was killed is closed after this one.
func (o *Opened) takeOver(ctx context.Context) (note, error) {
	fresh := note{Disk: o.disk}
	n, err := o.current()
	if err != nil || n.isEmpty() {
		return fresh, err
	}
	unused, err := o.use.TryLock()
	if err != nil {
		return n, err
	}
	if unused && (n.Disk.Mount != o.disk.Mount || n.Disk.LUKS != o.disk.LUKS) {
		n.Disk.Eject = false
		return fresh, o.close(ctx, n)
	}
	if unused {
		o.options.Log.Warn(fmt.Sprintf("disk %s was left open by a run that was killed; it is closed after this one", o.disk.Name))
	}
	n.Disk = o.disk
	return n, nil
}

// current reads the note, and tells of what may be left from a run that was killed in the middle of opening something.
func (o *Opened) current() (note, error) {
	n, err := o.options.place(o.disk.Name).read()
	if err != nil {
		o.options.Log.Warn(fmt.Sprintf("disk %s: what was left open is unknown: %v", o.disk.Name, err))
		return note{}, nil
	}
	if n.isEmpty() {
		return n, nil
	}
	n, unsure, err := o.options.current(n)
	for _, what := range unsure {
		o.options.Log.Warn(fmt.Sprintf("disk %s: a run was killed while it opened it; %s may be left from that, or be somebody else's, and stays",
			o.disk.Name, what))
	}
	return n, err
}

// bring makes what is missing, and refuses another disk. The note tells what was made, also after an error.
func (o *Opened) bring(ctx context.Context, n *note) error {
	m, err := mountedAt(o.disk.Mount)
	if err != nil {
		return err
	}
	if m == nil {
		n.Changing = true
		if err := o.write(*n); err != nil {
			return err
		}
		if err := o.unlock(ctx, n); err != nil {
			return err
		}
		if m, err = o.mount(ctx, n); err != nil {
			return err
		}
		n.Changing = false
	}
	if err := o.write(*n); err != nil {
		return err
	}
	return o.disk.checkIdentity(ctx, o.options, m)
}

// unlock makes the mapping. One that is there is somebody else's, unless the note tells of it.
func (o *Opened) unlock(ctx context.Context, n *note) error {
	if o.disk.LUKS == "" {
		return nil
	}
	ino, err := o.options.mappingNumber(o.disk)
	if err != nil || ino != 0 {
		return err
	}
	err = o.disk.unlock(ctx, o.options)
	ino, lookErr := o.options.mappingNumber(o.disk)
	n.Mapping = ino
	if err = errors.Join(err, lookErr); err != nil {
		return err
	}
	failpoint.Reach("disk unlocked")
	o.options.Log.Info(fmt.Sprintf("disk %s: unlocked %s", o.disk.Name, o.disk.LUKS))
	return o.write(*n)
}

func (o *Opened) mount(ctx context.Context, n *note) (*mount, error) {
	err := o.disk.mount(ctx, o.options)
	m, lookErr := mountedAt(o.disk.Mount)
	if m != nil {
		n.Mount = m.id
	}
	if err = errors.Join(err, lookErr); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("nothing is mounted at %s, although the program that mounts it did not fail", o.disk.Mount)
	}
	failpoint.Reach("disk mounted")
	o.options.Log.Info(fmt.Sprintf("disk %s: mounted at %s", o.disk.Name, o.disk.Mount))
	return m, nil
}

func (o *Opened) write(n note) error { return o.options.place(o.disk.Name).write(n) }
