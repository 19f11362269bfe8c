package configapi

import "net/http"

func (a *API) rest() http.Handler { return http.NotFoundHandler() }
