package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Lengths of tokens, in characters.
const (
	minToken = 16
	maxToken = 256
)

// makeToken is what to do for want of a good token.
const makeToken = "make one with `locksmith-server token NAME` or `openssl rand -hex 32`"

// digest is the SHA-256 of a token.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// NewToken makes a token of 256 random bits, 64 hexadecimal digits, and its SHA-256 in
// the form in which the access file has it as "tokenSHA256".
func NewToken() (token, tokenSHA256 string) {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	token = hex.EncodeToString(random)
	sum := digestOf(token)
	return token, hex.EncodeToString(sum[:])
}

// checkToken says what is wrong with a token, without showing it.
func checkToken(token string) error {
	if len(token) < minToken || len(token) > maxToken {
		return fmt.Errorf("the token has %d characters, allowed are %d to %d: %s", len(token), minToken, maxToken, makeToken)
	}
	var seen [128]bool
	different := 0
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("the token holds a character that is no printable ASCII, or a space: %s", makeToken)
		}
		if !seen[c] {
			seen[c], different = true, different+1
		}
	}
	if different < minToken/2 {
		return fmt.Errorf("the token is made of %d different characters only, which can be guessed: %s", different, makeToken)
	}
	return nil
}
