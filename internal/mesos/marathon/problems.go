package marathon

import (
	"encoding/json"
	"net/http"
)

// problem is an answer other than success.
type problem struct {
	status  int
	message string
	// details of a definition that is not valid, or of text that is no JSON.
	details any
	// deployments that lock an application.
	deployments []idOnly
}

type idOnly struct {
	ID string `json:"id"`
}

// detail names a part of a definition and what is wrong with it.
type detail struct {
	Path   string   `json:"path"`
	Errors []string `json:"errors"`
}

func (p *problem) Error() string { return p.message }

func (p *problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Message     string   `json:"message"`
		Details     any      `json:"details,omitempty"`
		Deployments []idOnly `json:"deployments,omitempty"`
	}{p.message, p.details, p.deployments})
}

func notFound(message string) *problem {
	return &problem{status: http.StatusNotFound, message: message}
}

func invalidJSON(err error) *problem {
	return &problem{status: http.StatusBadRequest, message: "Invalid JSON", details: err.Error()}
}

// violations collects what is wrong with a definition.
type violations struct{ details []detail }

func (v *violations) add(path, text string) {
	for i := range v.details {
		if v.details[i].Path == path {
			v.details[i].Errors = append(v.details[i].Errors, text)
			return
		}
	}
	v.details = append(v.details, detail{path, []string{text}})
}

func (v *violations) problem() *problem {
	return &problem{status: http.StatusUnprocessableEntity, message: "Object is not valid", details: v.details}
}
