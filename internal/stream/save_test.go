package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// deliver sends one snapshot, to the receivers that are made in turn.
func deliver(t testing.TB, makeReceivers func(*fakeTarget, btrfs.Subvolume) []Receiver, fail ...error) (sent, *diary) {
	t.Helper()
	return deliverUntil(t.Context(), makeReceivers, fail...)
}

// sent is what came of a transfer.
type sent struct {
	engine.Result
	err error
}

func deliverUntil(ctx context.Context, makeReceivers func(*fakeTarget, btrfs.Subvolume) []Receiver, fail ...error) (sent, *diary) {
	from, to := newFakes()
	from.fail = fail
	to.receivers = makeReceivers(to, snapshot)
	result, err := Course{From: from, To: to, Log: slog.New(slog.DiscardHandler)}.Save(ctx, engine.Transfer{Snapshot: snapshot})
	return sent{result, err}, from.diary
}

// one makes a receiver that cannot resume.
func one(change func(*fakeReceiver)) func(*fakeTarget, btrfs.Subvolume) []Receiver {
	return func(d *fakeTarget, s btrfs.Subvolume) []Receiver {
		r := d.receiver(s)
		change(r)
		return []Receiver{r}
	}
}

// resumable makes receivers that can resume, each with a change.
func resumable(changes ...func(*resumableReceiver)) func(*fakeTarget, btrfs.Subvolume) []Receiver {
	return func(d *fakeTarget, s btrfs.Subvolume) (all []Receiver) {
		for _, change := range changes {
			r := &resumableReceiver{fakeReceiver: d.receiver(s)}
			change(r)
			all = append(all, r)
		}
		return all
	}
}

func asIs(*resumableReceiver) {}

// has makes a receiver that has something from an earlier run.
func has(data []byte) func(*resumableReceiver) {
	return func(r *resumableReceiver) { r.data = data }
}

func breaking(breaks ...writeBreak) func(*resumableReceiver) {
	return func(r *resumableReceiver) { r.breaks = breaks }
}

// wantSent fails unless the whole stream was sent and counted once.
func wantSent(t testing.TB, got sent, resumed int) {
	t.Helper()
	if got.err != nil || got.Bytes != int64(len(content)) || got.Resumed != resumed {
		t.Errorf("sent %d bytes, resumed %d times, want %d, %d; failure: %v", got.Bytes, got.Resumed, len(content), resumed, got.err)
	}
}

func TestALostConnectionIsResumedWhereTheReceiverIs(t *testing.T) {
	got, diary := deliver(t, resumable(breaking(
		writeBreak{at: 34, err: errLost, lost: 5}, writeBreak{at: 90, err: errLost}, writeBreak{at: 95, err: errLost, lost: 95},
	)))
	wantSent(t, got, 3)
	diary.want(t, "receive", "taken", "send", "close", "taken", "send after 29", "close", "taken", "send after 90", "close",
		"taken", "send", "close", "commit 100")
}

func TestWhatAnEarlierRunLeftIsNotSentAgain(t *testing.T) {
	got, diary := deliver(t, resumable(has(content[:42])))
	wantSent(t, got, 0)
	diary.want(t, "receive", "taken", "send after 42", "close", "commit 100")
}

func TestAStreamThatBeginsOtherwiseThanBeforeIsSentOnceMoreFromTheStart(t *testing.T) {
	got, diary := deliver(t, resumable(has([]byte("of another stream")), asIs))
	wantSent(t, got, 0)
	diary.want(t, "receive", "taken", "send after 17", "abort", "receive", "taken", "send", "close", "commit 100")

	longer := append(content[:len(content):len(content)], "more"...)
	got, diary = deliver(t, resumable(has(longer), has(longer)))
	if !errors.Is(got.err, sendstream.ErrPrefixDiffers) {
		t.Errorf("failure: %v", got.err)
	}
	diary.want(t, "receive", "taken", "send after 104", "abort", "receive", "taken", "send after 104", "abort")
}

func TestOnlyALostConnectionIsResumed(t *testing.T) {
	got, diary := deliver(t, resumable(func(r *resumableReceiver) {
		r.breaks, r.closeErr = []writeBreak{{at: 30, err: syscall.EPIPE}}, errSome
	}))
	if !errors.Is(got.err, errSome) || errors.Is(got.err, syscall.EPIPE) || got.Resumed != 0 {
		t.Errorf("resumed %d times, failure: %v", got.Resumed, got.err)
	}
	diary.want(t, "receive", "taken", "send", "close", "abort")
}

func TestAReceiverThatCannotResumeIsNotWrittenToAgain(t *testing.T) {
	got, diary := deliver(t, one(func(r *fakeReceiver) { r.breaks, r.closeErr = []writeBreak{{at: 30, err: errLost}}, errLost }))
	if got.err == nil || got.Resumed != 0 {
		t.Errorf("resumed %d times, failure: %v", got.Resumed, got.err)
	}
	diary.want(t, "receive", "send", "close", "abort")
}

func TestADestinationThatIsNotReachedAgainFails(t *testing.T) {
	got, diary := deliver(t, resumable(func(r *resumableReceiver) {
		r.breaks = []writeBreak{{at: 30, err: errLost, then: func() { r.takenErr = errSome }}}
	}))
	if !errors.Is(got.err, errSome) || got.Bytes != 30 {
		t.Errorf("sent %d bytes, failure: %v", got.Bytes, got.err)
	}
	diary.want(t, "receive", "taken", "send", "close", "taken", "abort")
}

func TestALostConnectionIsNotResumedAfterTheRunWasEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	got, diary := deliverUntil(ctx, resumable(func(r *resumableReceiver) {
		r.breaks = []writeBreak{{at: 30, err: errLost, then: func() { cancel(errSome) }}}
		r.closeErr = errLost
	}))
	if !errors.Is(got.err, errLost) || !got.Kept || !strings.Contains(hint.Of(got.err), "the same command resumes") {
		t.Errorf("error: %v, hint: %q, kept: %t", got.err, hint.Of(got.err), got.Kept)
	}
	diary.want(t, "receive", "taken", "send", "close") // what the receiver has is left to the next run
}

func TestWhatCannotBeResumedIsAbortedWhenTheRunIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	got, diary := deliverUntil(ctx, one(func(r *fakeReceiver) {
		r.breaks = []writeBreak{{at: 30, err: syscall.EPIPE, then: func() { cancel(errSome) }}}
	}))
	if got.Kept {
		t.Error("what was received is said to be kept")
	}
	diary.want(t, "receive", "send", "close", "abort")
}

func TestAConnectionThatIsLostAtTheVeryEndIsResumedToo(t *testing.T) {
	got, diary := deliver(t, resumable(func(r *resumableReceiver) { r.closeErr, r.closesOnce = errLost, true }))
	wantSent(t, got, 1)
	diary.want(t, "receive", "taken", "send", "close", "taken", "send after 100", "close", "commit 100")
}

func TestTheOneThatGaveUpIsBlamed(t *testing.T) {
	brokenPipe := []writeBreak{{at: 30, err: syscall.EPIPE}}
	sender, receiver := errors.New("sender failed"), errors.New("receiver failed")
	tests := []struct {
		name     string
		sendErr  error
		breaks   []writeBreak
		closeErr error
		want     error
		then     []string
	}{
		{"both well", nil, nil, nil, nil, []string{"close", "commit 100"}},
		{"the receiver gave up at the end", nil, nil, receiver, receiver, []string{"close", "abort"}},
		{"the receiver gave up in between", nil, brokenPipe, receiver, receiver, []string{"close", "abort"}},
		{"the pipe broke, nobody knows why", nil, brokenPipe, nil, syscall.EPIPE, []string{"close", "abort"}},
		{"the sender failed", sender, nil, nil, sender, []string{"abort"}},
		{"the sender failed, so would the receiver with half a stream", sender, nil, receiver, sender, []string{"abort"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, diary := deliver(t, one(func(r *fakeReceiver) { r.breaks, r.closeErr = test.breaks, test.closeErr }), test.sendErr)
			diary.want(t, append([]string{"receive", "send"}, test.then...)...)
			if (got.err == nil) != (test.want == nil) || got.err != nil && !errors.Is(got.err, test.want) {
				t.Errorf("failure: %v, want %v", got.err, test.want)
			}
			for _, other := range []error{sender, receiver, syscall.EPIPE} {
				if other != test.want && got.err != nil && errors.Is(got.err, other) {
					t.Errorf("%v is blamed too", other)
				}
			}
		})
	}
}

func TestWhatDoesNotPassVerificationIsAborted(t *testing.T) {
	got, diary := deliver(t, one(func(r *fakeReceiver) { r.received.ReadOnly = false }))
	if got.err == nil {
		t.Error("no failure")
	}
	diary.want(t, "receive", "send", "close", "abort")
}

func TestBytesOnTheWireAreCounted(t *testing.T) {
	got, _ := deliver(t, resumable(breaking(writeBreak{at: 30, err: errLost})))
	if got.Wire != 4+10 {
		t.Errorf("%d bytes on the wire", got.Wire)
	}
}

func TestATargetAtWhichNobodyCanLookIsNotAskedToVerify(t *testing.T) {
	from, to := newFakes()
	to.receivers = one(func(r *fakeReceiver) { r.received = btrfs.Subvolume{} })(to, snapshot)
	blind := struct{ Target }{to}
	if _, err := (Course{From: from, To: blind, Log: slog.New(slog.DiscardHandler)}).Save(t.Context(), engine.Transfer{Snapshot: snapshot}); err != nil {
		t.Error(err)
	}
	from.want(t, "receive", "send", "close", "commit 100")
}

func TestOnlyABadStreamIsSentOnceMore(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("sending: %w", sendstream.ErrRestartDiffers): true,
		sendstream.ErrCorrupt:   true,
		sendstream.ErrTruncated: true,
		&sendstream.WriteError{Err: sendstream.ErrPrefixDiffers}: true,
		sendstream.ErrUnsupported:                                false,
		errSome:                                                  false,
		nil:                                                      false,
	} {
		if got := isBadStream(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

// keepingReceiver keeps what it has, whatever failed.
type keepingReceiver struct{ *resumableReceiver }

func (keepingReceiver) Keep(error) bool      { return true }
func (keepingReceiver) Keeps() time.Duration { return 48 * time.Hour }

func TestWhatIsKeptTellsForHowLong(t *testing.T) {
	from, to := newFakes()
	r := to.receiver(snapshot)
	r.closeErr = errSome
	to.receivers = []Receiver{keepingReceiver{&resumableReceiver{fakeReceiver: r}}}
	result, err := Course{From: from, To: to, Log: slog.New(slog.DiscardHandler)}.Save(t.Context(), engine.Transfer{Snapshot: snapshot})
	if !errors.Is(err, errSome) || !result.Kept || result.KeptFor != 48*time.Hour {
		t.Errorf("%+v, %v", result, err)
	}
	for _, entry := range from.entries {
		if entry == "abort" {
			t.Error("what was to be kept was given up")
		}
	}
}
