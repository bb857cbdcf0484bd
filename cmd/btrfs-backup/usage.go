package main

import "github.com/btrfs-backup/btrfs-backup/internal/arguments"

// What nearly every command says of its words.
var misused, needPlace, needNothing = arguments.Misused, arguments.NeedPlace, arguments.NeedNothing
