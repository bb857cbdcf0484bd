package process

import "golang.org/x/sys/unix"

// deepest is more descriptors than rsync 3.5 takes: one for each directory in a path, of which there can be PATH_MAX/2.
const deepest = 4096

// AllowDescriptors raises the limit of open files for this program and those that it starts, as far as it may. Go alone would start them
// with the limit that was.
func AllowDescriptors() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	enough := limit
	enough.Max = max(limit.Max, deepest)
	enough.Cur = max(min(enough.Max, deepest), limit.Cur)
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &enough) != nil { // only root raises the upper limit
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}
