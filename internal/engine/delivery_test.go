package engine

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
)

// deliver sends one snapshot, to the receivers that are made in turn.
func deliver(t testing.TB, makeReceivers func(*fakeDestination, btrfs.Subvolume) []Receiver, fail ...error) (Sent, *diary) {
	t.Helper()
	s, d := newFakes(snap(1))
	s.fail = fail
	d.receivers = makeReceivers(d, s.here[0])
	saved := save(t, jobOf(s, d))
	if len(saved.Transfers) != 1 {
		t.Fatalf("%d transfers, failures: %v", len(saved.Transfers), saved.Failures)
	}
	return saved.Transfers[0], s.diary
}

// one makes a receiver that cannot resume.
func one(change func(*fakeReceiver)) func(*fakeDestination, btrfs.Subvolume) []Receiver {
	return func(d *fakeDestination, s btrfs.Subvolume) []Receiver {
		r := d.receiver(s)
		change(r)
		return []Receiver{r}
	}
}

// resumable makes receivers that can resume, each with a change.
func resumable(changes ...func(*resumableReceiver)) func(*fakeDestination, btrfs.Subvolume) []Receiver {
	return func(d *fakeDestination, s btrfs.Subvolume) (all []Receiver) {
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
func wantSent(t testing.TB, got Sent, resumed int) {
	t.Helper()
	if got.Failure != nil || got.Bytes != int64(len(content)) || got.Resumed != resumed {
		t.Errorf("sent %d bytes, resumed %d times, want %d, %d; failure: %v", got.Bytes, got.Resumed, len(content), resumed, got.Failure)
	}
}

func TestALostConnectionIsResumedWhereTheReceiverIs(t *testing.T) {
	got, diary := deliver(t, resumable(breaking(
		writeBreak{at: 34, err: errLost, lost: 5}, writeBreak{at: 90, err: errLost}, writeBreak{at: 95, err: errLost, lost: 95},
	)))
	wantSent(t, got, 3)
	diary.want(t, "receive 1", "taken", "send 1", "close", "taken", "send 1 after 29", "close", "taken", "send 1 after 90", "close",
		"taken", "send 1", "close", "commit 100")
}

func TestWhatAnEarlierRunLeftIsNotSentAgain(t *testing.T) {
	got, diary := deliver(t, resumable(has(content[:42])))
	wantSent(t, got, 0)
	diary.want(t, "receive 1", "taken", "send 1 after 42", "close", "commit 100")
}

func TestAStreamThatBeginsOtherwiseThanBeforeIsSentOnceMoreFromTheStart(t *testing.T) {
	got, diary := deliver(t, resumable(has([]byte("of another stream")), asIs))
	wantSent(t, got, 0)
	diary.want(t, "receive 1", "taken", "send 1 after 17", "abort", "receive 1", "taken", "send 1", "close", "commit 100")

	longer := append(content[:len(content):len(content)], "more"...)
	got, diary = deliver(t, resumable(has(longer), has(longer)))
	if got.Failure == nil || !errors.Is(got.Failure.Err, sendstream.ErrPrefixDiffers) {
		t.Errorf("failure: %v", got.Failure)
	}
	diary.want(t, "receive 1", "taken", "send 1 after 104", "abort", "receive 1", "taken", "send 1 after 104", "abort")
}

func TestOnlyALostConnectionIsResumed(t *testing.T) {
	got, diary := deliver(t, resumable(func(r *resumableReceiver) {
		r.breaks, r.closeErr = []writeBreak{{at: 30, err: syscall.EPIPE}}, errSome
	}))
	if got.Failure == nil || !errors.Is(got.Failure.Err, errSome) || errors.Is(got.Failure.Err, syscall.EPIPE) || got.Resumed != 0 {
		t.Errorf("resumed %d times, failure: %v", got.Resumed, got.Failure)
	}
	diary.want(t, "receive 1", "taken", "send 1", "close", "abort")
}

func TestAReceiverThatCannotResumeIsNotWrittenToAgain(t *testing.T) {
	got, diary := deliver(t, one(func(r *fakeReceiver) { r.breaks, r.closeErr = []writeBreak{{at: 30, err: errLost}}, errLost }))
	if got.Failure == nil || got.Resumed != 0 {
		t.Errorf("resumed %d times, failure: %v", got.Resumed, got.Failure)
	}
	diary.want(t, "receive 1", "send 1", "close", "abort")
}

func TestADestinationThatIsNotReachedAgainFails(t *testing.T) {
	got, diary := deliver(t, resumable(func(r *resumableReceiver) {
		r.breaks = []writeBreak{{at: 30, err: errLost, then: func() { r.takenErr = errSome }}}
	}))
	if got.Failure == nil || !errors.Is(got.Failure.Err, errSome) || got.Bytes != 30 {
		t.Errorf("sent %d bytes, failure: %v", got.Bytes, got.Failure)
	}
	diary.want(t, "receive 1", "taken", "send 1", "close", "taken", "abort")
}

func TestALostConnectionIsNotResumedAfterTheRunWasEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s, d := newFakes(snap(1))
	r := &resumableReceiver{fakeReceiver: d.receiver(s.here[0])}
	r.breaks = []writeBreak{{at: 30, err: errLost, then: func() { cancel(errSome) }}}
	r.closeErr = errLost
	d.receivers = []Receiver{r}
	if _, err := Run(ctx, jobOf(s, d)); !errors.Is(err, errSome) {
		t.Errorf("error: %v", err)
	}
	s.want(t, "receive 1", "taken", "send 1", "close") // what the receiver has is left to the next run
}

func TestWhatCannotBeResumedIsAbortedWhenTheRunIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s, d := newFakes(snap(1))
	r := d.receiver(s.here[0])
	r.breaks = []writeBreak{{at: 30, err: syscall.EPIPE, then: func() { cancel(errSome) }}}
	d.receivers = []Receiver{r}
	if _, err := Run(ctx, jobOf(s, d)); !errors.Is(err, errSome) {
		t.Errorf("error: %v", err)
	}
	s.want(t, "receive 1", "send 1", "close", "abort")
}

func TestAConnectionThatIsLostAtTheVeryEndIsResumedToo(t *testing.T) {
	got, diary := deliver(t, resumable(func(r *resumableReceiver) { r.closeErr, r.closesOnce = errLost, true }))
	wantSent(t, got, 1)
	diary.want(t, "receive 1", "taken", "send 1", "close", "taken", "send 1 after 100", "close", "commit 100")
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
			diary.want(t, append([]string{"receive 1", "send 1"}, test.then...)...)
			if (got.Failure == nil) != (test.want == nil) || got.Failure != nil && !errors.Is(got.Failure.Err, test.want) {
				t.Errorf("failure: %v, want %v", got.Failure, test.want)
			}
			for _, other := range []error{sender, receiver, syscall.EPIPE} {
				if other != test.want && got.Failure != nil && errors.Is(got.Failure.Err, other) {
					t.Errorf("%v is blamed too", other)
				}
			}
		})
	}
}

func TestWhatDoesNotPassVerificationIsAborted(t *testing.T) {
	got, diary := deliver(t, one(func(r *fakeReceiver) { writable(&r.received) }))
	if got.Failure == nil {
		t.Error("no failure")
	}
	diary.want(t, "receive 1", "send 1", "close", "abort")
}

func TestBytesOnTheWireAreCounted(t *testing.T) {
	got, _ := deliver(t, resumable(breaking(writeBreak{at: 30, err: errLost})))
	if got.Wire != 4+10 {
		t.Errorf("%d bytes on the wire", got.Wire)
	}
}
