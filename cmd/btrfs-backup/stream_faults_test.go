package main

import (
	"testing"
)

// streamFault is what becomes of the stream of a kernel that reports success.
type streamFault struct{ name, does string }

var truncations = []streamFault{
	{"within the stream header", "cut 10"},
	{"behind the stream header", "cut 17"},
	{"within the first command", "cut 60"},
	{"in the middle", "cut 1/2"},
	{"before the end command", "cut -10"},
	{"by its last byte", "cut -1"},
}

// The stream header has 17 bytes, that of a command 10: size (4), type (2), checksum (4).
var flippedBits = []streamFault{
	{"in the stream header", "flip 3"},
	{"in the type of the first command", "flip 21"},
	{"in the checksum of the first command", "flip 23"},
	{"in the name in the first command", "flip 33"},
	{"in the data", "flip 1/2"},
	{"in the end command", "flip -1"},
}

func TestBadStreamIsRetriedOnceAndNeverBecomesABackup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for kind, faults := range map[string][]streamFault{"truncated": truncations, "flipped bit": flippedBits} {
		for _, fault := range faults {
			t.Run(kind+" "+fault.name, func(t *testing.T) {
				r := r.in(t)
				r.change()
				before := names(t, r.destination)
				streams := newTap(t, fault.does)
				expect(t, exitFailed, r.run(streams.environ()), "sending once more from the start", "btrfs-backup: error: sending ", " to "+r.destination+": send stream is ")
				streams.passed(t, 2)
				r.holdsOnly(before)
				r.heals()
			})
		}
	}
}

func TestStreamThatIsBadOnceIsSavedBySendingAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, fault := range []streamFault{truncations[3], flippedBits[0], flippedBits[4]} {
		t.Run(fault.name, func(t *testing.T) {
			r := r.in(t)
			r.change()
			streams := newTapForOne(t, fault.does)
			expect(t, exitDone, r.run(streams.environ()), "sending once more from the start")
			streams.passed(t, 2)
			r.isSaved(r.destination)
		})
	}
}

func TestEmptyStreamFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := names(t, r.destination)
	expect(t, exitFailed, r.run(newTap(t, "cut 0").environ()), "to "+r.destination+": the sender produced no stream")
	r.holdsOnly(before)
	r.heals()
}

// What a receiver with status 0 left behind is looked at.
func TestReceiverThatIsWrongAboutSuccessIsNotBelieved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, fault := range []struct{ name, script, complaint string }{
		{"receives nothing", `cat >/dev/null; exit 0`, "no such file or directory"},
		{"receives a part", `head -c 150000 | "$real" "$@" 2>/dev/null; cat >/dev/null; exit 0`, "the received subvolume is not complete"},
		{"lies writable", `"$real" "$@"; "$real" property set -f -ts "$3"/.*.incoming ro false; exit 0`, "the received subvolume is not complete"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			r := r.in(t)
			r.change()
			before := names(t, r.destination)
			expect(t, exitFailed, r.run(newShim(t, fault.script).environ(), "--receiver", "stock"), fault.complaint)
			r.holdsOnly(before)
			r.heals()
		})
	}
}
