// Package model holds the objects of the configuration: their generated Go
// types, the schema that checks what clients send, and the graph that every
// reader in the system works from.
//
//	api/model/*.yaml --modelgen--> *_gen.go (types, tables)
//
//	JSON of a client --Type.Decode--> Object --Encode--> JSON in the store
//	store watch --Batch--> Graph.Apply --> View (consistent reads)
//	                                  `--> Subscription (what changed)
//
// Objects are immutable once they are in a Graph: whoever wants to change one
// makes a new one (Type.Patch). References between objects are values of
// their own, because the store keeps one key for each.
//
// To change the model, edit api/model/*.yaml and run `go generate
// ./internal/model`; a test fails when the generated files are out of date.
package model

//go:generate go run ./modelgen
