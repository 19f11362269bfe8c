// Package codec is how Mesos's v1 HTTP APIs write messages: the JSON dialect
// and protobuf, the negotiation of the two, and RecordIO streams.
//
//	request  -> RequestType(Content-Type) -> Decode -> message
//	message  -> ResponseType(Accept)      -> Encode -> response
//	messages -> RecordWriter              -> one HTTP chunk per record
//	stream   -> RecordReader              -> frames, bounded in size
//
// The JSON dialect is Mesos's own: fields by their proto names in the order of
// declaration, enums by name, 64-bit integers as numbers, doubles always with a
// fraction, bytes in base64, set fields only. Input may have numbers as strings,
// unknown fields and unknown names of optional enums. Texts of errors are those
// that Mesos answers with.
package codec
