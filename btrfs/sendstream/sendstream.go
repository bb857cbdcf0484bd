// Package sendstream reads, checks, rewrites and measures btrfs send streams
// of protocols 1 to 3.
//
// A stream is trusted only as far as it was checked. A command leaves this
// package after its checksum was found right, and the END command after the
// sender closed the stream right behind it; so whoever receives END holds a
// complete stream.
//
// A btrfs send that is stopped and continued (SIGSTOP, a frozen cgroup, a
// suspended machine) begins its output again in the middle of a command and
// still exits with status 0, because the kernel restarts the interrupted
// ioctl. The package finds such restarts, drops the repetition after comparing
// it with what it already passed on, and refuses a stream whose repetition
// differs.
//
// Newer protocols are refused: their commands may be framed differently.
package sendstream
