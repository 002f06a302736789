// An outside verifier: what golang.org/x/mod/sumdb says of keys, checkpoints and proofs.
//
// It reads lines of JSON from standard input, each with what is claimed, and prints for each "yes"
// or "no": whether the claim holds.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type claim struct {
	Kind  string
	Vkey  string
	Note  string
	Size  int64
	Root  string
	Index int64
	Leaf  string
	Old   int64
	Was   string
	Proof []string
}

func hash(text string) (found tlog.Hash) {
	data, err := hex.DecodeString(text)
	if err != nil || len(data) != tlog.HashSize {
		return
	}
	copy(found[:], data)
	return
}

func hashes(texts []string) (found []tlog.Hash) {
	for _, text := range texts {
		found = append(found, hash(text))
	}
	return
}

func holds(c claim) bool {
	switch c.Kind {
	case "note":
		verifier, err := note.NewVerifier(c.Vkey)
		if err != nil {
			return false
		}
		_, err = note.Open([]byte(c.Note), note.VerifierList(verifier))
		return err == nil
	case "leaf":
		data, _ := hex.DecodeString(c.Leaf)
		return tlog.RecordHash(data) == hash(c.Root)
	case "inclusion":
		return tlog.CheckRecord(hashes(c.Proof), c.Size, hash(c.Root), c.Index, hash(c.Leaf)) == nil
	case "consistency":
		return tlog.CheckTree(hashes(c.Proof), c.Size, hash(c.Root), c.Old, hash(c.Was)) == nil
	}
	return false
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c claim
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if holds(c) {
			fmt.Println("yes")
		} else {
			fmt.Println("no")
		}
	}
}
