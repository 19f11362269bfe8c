package bgp

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Notification is a NOTIFICATION message, sent or received, and the error that
// ends a session with it.
type Notification struct {
	Code, Subcode uint8
	Data          []byte
}

// Error codes of RFC 4271 §4.5.
const (
	codeHeader  = 1
	codeOpen    = 2
	codeUpdate  = 3
	codeHold    = 4
	codeFSM     = 5
	codeCease   = 6
	codeRefresh = 7
)

// Subcodes in use.
const (
	headerNotSynced = 1
	headerLength    = 2
	headerType      = 3

	openVersion     = 1
	openPeerAS      = 2
	openIdentifier  = 3
	openParameter   = 4
	openHoldTime    = 6
	openCapability  = 7
	updateMalformed = 1
	updateWellKnown = 2
	updateOptional  = 9
	updateNetwork   = 10

	ceaseMaxPrefixes   = 1
	ceaseShutdown      = 2
	ceaseDeconfigured  = 3
	ceaseReset         = 4
	ceaseRejected      = 5
	ceaseConfigChange  = 6
	ceaseCollision     = 7
	ceaseResources     = 8
	ceaseHardReset     = 9 // RFC 8538
	sendHoldSubcode    = 0
	codeSendHold       = 8 // RFC 9687
	maxShutdownMessage = 255
)

var codeNames = map[uint8]string{
	codeHeader: "message header error", codeOpen: "OPEN message error", codeUpdate: "UPDATE message error",
	codeHold: "hold timer expired", codeFSM: "finite state machine error", codeCease: "cease",
	codeRefresh: "ROUTE-REFRESH message error", codeSendHold: "send hold timer expired",
}

var subcodeNames = map[[2]uint8]string{
	{codeHeader, headerNotSynced}: "connection not synchronized", {codeHeader, headerLength}: "bad message length",
	{codeHeader, headerType}: "bad message type",
	{codeOpen, openVersion}:  "unsupported version number", {codeOpen, openPeerAS}: "bad peer AS",
	{codeOpen, openIdentifier}: "bad BGP identifier", {codeOpen, openParameter}: "unsupported optional parameter",
	{codeOpen, openHoldTime}: "unacceptable hold time", {codeOpen, openCapability}: "unsupported capability",
	{codeUpdate, updateMalformed}: "malformed attribute list", {codeUpdate, updateWellKnown}: "unrecognized well-known attribute",
	{codeUpdate, 3}: "missing well-known attribute", {codeUpdate, 4}: "attribute flags error",
	{codeUpdate, 5}: "attribute length error", {codeUpdate, 6}: "invalid ORIGIN attribute",
	{codeUpdate, 8}: "invalid NEXT_HOP attribute", {codeUpdate, updateOptional}: "optional attribute error",
	{codeUpdate, updateNetwork}: "invalid network field", {codeUpdate, 11}: "malformed AS_PATH",
	{codeCease, ceaseMaxPrefixes}: "maximum number of prefixes reached", {codeCease, ceaseShutdown}: "administrative shutdown",
	{codeCease, ceaseDeconfigured}: "peer de-configured", {codeCease, ceaseReset}: "administrative reset",
	{codeCease, ceaseRejected}: "connection rejected", {codeCease, ceaseConfigChange}: "other configuration change",
	{codeCease, ceaseCollision}: "connection collision resolution", {codeCease, ceaseResources}: "out of resources",
	{codeCease, ceaseHardReset}: "hard reset",
}

// Error names the code, and the operator's words of RFC 8203.
func (n *Notification) Error() string {
	name, ok := codeNames[n.Code]
	if !ok {
		name = fmt.Sprintf("error code %d", n.Code)
	}
	if sub, ok := subcodeNames[[2]uint8{n.Code, n.Subcode}]; ok {
		name += ": " + sub
	} else if n.Subcode != 0 {
		name += fmt.Sprintf(": subcode %d", n.Subcode)
	}
	if words := n.message(); words != "" {
		return fmt.Sprintf("%s (%q)", name, words)
	}
	if len(n.Data) > 0 {
		return fmt.Sprintf("%s (data %s)", name, hex.EncodeToString(n.Data[:min(len(n.Data), 32)]))
	}
	return name
}

// message returns the words of a shutdown (RFC 9003), "" if there are none or
// they are no text.
func (n *Notification) message() string {
	if n.Code != codeCease || n.Subcode != ceaseShutdown && n.Subcode != ceaseReset || len(n.Data) < 2 {
		return ""
	}
	size := int(n.Data[0])
	if size > len(n.Data)-1 || !utf8.Valid(n.Data[1:1+size]) {
		return ""
	}
	return string(n.Data[1 : 1+size])
}

// cease returns a Cease with the operator's words.
func cease(subcode uint8, words string) *Notification {
	n := &Notification{Code: codeCease, Subcode: subcode}
	if words != "" && (subcode == ceaseShutdown || subcode == ceaseReset) {
		if len(words) > maxShutdownMessage {
			words = strings.ToValidUTF8(words[:maxShutdownMessage], "")
		}
		n.Data = append([]byte{byte(len(words))}, words...)
	}
	return n
}

func (n *Notification) wire() []byte {
	size := headerSize + 2 + len(n.Data)
	b := appendHeader(make([]byte, 0, size), size, msgNotification)
	return append(append(b, n.Code, n.Subcode), n.Data...)
}

// peerError is a NOTIFICATION that the peer sent.
type peerError struct{ *Notification }

func (e peerError) Error() string { return "the peer says: " + e.Notification.Error() }
