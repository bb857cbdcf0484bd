package sendstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

func TestCopyDropsRestartAtEveryByte(t *testing.T) {
	s := small()
	for cut := 1; cut <= len(s); cut++ {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			sum := wantCopied(t, slices.Concat(s[:cut], s), s)
			if sum.Restarts != 1 {
				t.Fatalf("%d restarts", sum.Restarts)
			}
		})
	}
}

func TestCopyDropsRestartReadByteByByte(t *testing.T) {
	s := small()
	for cut := 1; cut <= len(s); cut++ {
		var out bytes.Buffer
		r := iotest.OneByteReader(bytes.NewReader(slices.Concat(s[:cut], s)))
		sum, err := sendstream.Copy(&out, r)
		if err != nil || !bytes.Equal(out.Bytes(), s) || sum.Restarts != 1 {
			t.Fatalf("cut at %d: %d restarts, error %v", cut, sum.Restarts, err)
		}
	}
}

func TestCopyDropsTwoRestartsAtAnyPairOfBytes(t *testing.T) { dropsTwoRestarts(t, 7) }

func TestCopyDropsTwoRestartsAtEveryPairOfBytes(t *testing.T) {
	btrfstest.OnlyInAll(t)
	dropsTwoRestarts(t, 1)
}

// dropsTwoRestarts tries one of so many pairs.
func dropsTwoRestarts(t *testing.T, every int) {
	s := stream(1, subvol, command(18, path("f"), u64(5, 0o644)), end)
	for first := 1; first <= len(s); first++ {
		for second := 1 + first%every; second <= len(s); second += every {
			got, sum, err := copyAll(slices.Concat(s[:first], s[:second], s))
			if err != nil || !bytes.Equal(got, s) {
				t.Fatalf("cuts at %d and %d: %v", first, second, err)
			}
			// A cut in the header of a cut stream hides one restart.
			if sum.Restarts != 2 && second >= 17 {
				t.Fatalf("cuts at %d and %d: %d restarts", first, second, sum.Restarts)
			}
		}
	}
}

func TestCopyDropsManyRestartsOfLargeStream(t *testing.T) {
	for protocol := range uint32(2) {
		s := large(protocol + 1)
		input := slices.Concat(s[:1_000_000], s[:2_500_001], s[:700_007], s[:30], s[:2_600_000], s)
		if sum := wantCopied(t, input, s); sum.Restarts != 5 {
			t.Fatalf("%d restarts", sum.Restarts)
		}
	}
}

func TestCopyRefusesRestartThatDiffers(t *testing.T) {
	s := small()
	first := boundaries(s)[1]
	later := command(2, path("home"), attr(1, testUUID), u64(2, 43), attr(20, parentUUID), u64(21, 41))
	tests := map[string][]byte{
		"transid":             slices.Concat(s[:17], later, s[first:]),
		"protocol":            slices.Concat(stream(2), s[17:]),
		"inserted command":    slices.Concat(s[:first], command(19, path("f"), u64(6, 1)), s[first:]),
		"missing command":     slices.Concat(s[:first], s[boundaries(s)[2]:]),
		"ends early":          slices.Concat(s[:first], end),
		"same sizes":          bytes.Replace(s, s[first:boundaries(s)[2]], command(3, path("o258-8-0"), u64(3, 258)), 1),
		"longer name":         stream(1, command(1, path("a much longer name than before"), attr(1, testUUID), u64(2, 1)), end),
		"nothing but a start": stream(1, end),
	}
	for name, repetition := range tests {
		t.Run(name, func(t *testing.T) {
			cut := len(s) - 20
			got, sum, err := copyAll(slices.Concat(s[:cut], repetition))
			if !errors.Is(err, sendstream.ErrRestartDiffers) {
				t.Fatalf("got error %v", err)
			}
			wantProperPrefix(t, got, s[:cut])
			if sum.Bytes != int64(len(got)) || sum.Name != "home" {
				t.Fatalf("summary is not that of what was forwarded: %+v", sum)
			}
		})
	}
}

func TestCopyRefusesRestartShorterThanTheCutCommand(t *testing.T) {
	s := large(1)
	cut := s[:boundaries(s)[1]+30_000]
	other := stream(1, command(1, path("other"), attr(1, testUUID), u64(2, 1)), end)
	wantRefused(t, slices.Concat(cut, other), s, sendstream.ErrRestartDiffers)
}

func TestCopyRefusesCorruptRepetition(t *testing.T) {
	s := small()
	bad := slices.Clone(s)
	bad[30] ^= 1
	wantRefused(t, slices.Concat(s[:len(s)-20], bad), s, sendstream.ErrCorrupt)
}

func TestCopyRefusesTruncatedRepetition(t *testing.T) {
	s := small()
	for cut := 17; cut < len(s); cut++ {
		wantRefused(t, slices.Concat(s[:len(s)-20], s[:cut]), s, sendstream.ErrTruncated)
	}
}

func TestCopyTakesMagicInFileDataForData(t *testing.T) {
	inner := small()
	s := stream(1, subvol, command(15, path("f"), u64(18, 0), attr(19, inner)), end)
	if sum := wantCopied(t, s, s); sum.Restarts != 0 {
		t.Fatalf("%d restarts", sum.Restarts)
	}
}

func TestCopyRefusesStreamWithinCorruptData(t *testing.T) {
	inner := small()
	s := stream(1, subvol, command(15, path("f"), u64(18, 0), attr(19, inner)), end)
	bad := slices.Clone(s)
	bad[17+len(subvol)+12] ^= 1
	got, _, err := copyAll(bad)
	if err == nil {
		t.Fatal("no error")
	}
	wantProperPrefix(t, got, s)
}

func TestCopyDoesNotLookFarForRestart(t *testing.T) {
	s := small()
	wantRefused(t, slices.Concat(s, make([]byte, 200), s), s, sendstream.ErrCorrupt)
}
