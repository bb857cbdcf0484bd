package main

import (
	"testing"
)

// streamFault is what becomes of the stream on its way out of btrfs send, which ends with status 0.
type streamFault struct{ name, script string }

const sendFile = `cat "$dir/stream"; exit`

var truncations = []streamFault{
	{"within the stream header", intoFile + `head -c 10 "$dir/stream"; exit`},
	{"behind the stream header", intoFile + `head -c 17 "$dir/stream"; exit`},
	{"within the first command", intoFile + `head -c 60 "$dir/stream"; exit`},
	{"in the middle", intoFile + `head -c $((size / 2)) "$dir/stream"; exit`},
	{"before the end command", intoFile + `head -c $((size - 10)) "$dir/stream"; exit`},
	{"by its last byte", intoFile + `head -c $((size - 1)) "$dir/stream"; exit`},
}

// The stream header has 17 bytes, that of a command 10: size (4), type (2), checksum (4).
var flippedBits = []streamFault{
	{"in the stream header", intoFile + `flip "$dir/stream" 3; ` + sendFile},
	{"in the type of the first command", intoFile + `flip "$dir/stream" 21; ` + sendFile},
	{"in the checksum of the first command", intoFile + `flip "$dir/stream" 23; ` + sendFile},
	{"in the name in the first command", intoFile + `flip "$dir/stream" 33; ` + sendFile},
	{"in the data", intoFile + `flip "$dir/stream" $((size / 2)); ` + sendFile},
	{"in the end command", intoFile + `flip "$dir/stream" $((size - 1)); ` + sendFile},
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
				s := newShim(t, fault.script, "")
				expect(t, exitFailed, r.run(s.environ()), "sending once more from the start", "btrfs-backup: error: sending ", " to "+r.destination+": send stream is ")
				s.wasCalled(t, "send", 2)
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
			s := newShim(t, `if test $call = 1; then `+fault.script+`; fi`, "")
			expect(t, exitDone, r.run(s.environ()), "sending once more from the start")
			s.wasCalled(t, "send", 2)
			r.isSaved(r.destination)
		})
	}
}

func TestEmptyStreamFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := names(t, r.destination)
	expect(t, exitFailed, r.run(newShim(t, `exit 0`, "").environ()), "to "+r.destination+": the sender produced no stream")
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
			expect(t, exitFailed, r.run(newShim(t, "", fault.script).environ()), fault.complaint)
			r.holdsOnly(before)
			r.heals()
		})
	}
}
