package manual

func init() {
	c := Commands["restore"]
	c.Sections = append([]Section{streams}, c.Sections...)
	Commands["restore"] = c
}

// streams tells of streams in place of backups.
var streams = Section{Title: "STREAMS", Text: `
With --streams, the arguments before TARGET are files of send streams, in any order, plain or compressed by zstd or gzip; - is standard
input, and a file may hold several, one behind the other. With --from-stream, they are the names of snapshots, and COMMAND, which a
shell runs for each, writes the stream of $BTRFS_BACKUP_SNAPSHOT, the variable that a shell:// destination is told; {snapshot} stands for it.
Of each, the beginning is read: it tells of which snapshot the stream is, and upon which it is built. The newest is restored, or
with --at the newest until DATE, from those that it needs and TARGET's filesystem lacks. If one is missing, it is named, and nothing is
made.

Every command of a stream is checked before it is applied. What the newest is built upon is received under hidden names, and
deleted in the end. After an interruption the same command goes on behind the last stream that was received. With
--keep-chain, all are received in the directory TARGET, and stay, read-only.`}
