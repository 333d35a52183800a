-- A routing policy for `parley serve`: whose token it is, and the model that the client names, decide.
--
--   parley serve --policy routing=scripts/examples/gateway_routes.lua --token ci=… --token ada=…
--
-- Which session a request goes to stays the gateway's affair, for no key is named.

--- What clients of other models name.
local MODELS = { ["gpt-5"] = "opus", ["gpt-5-mini"] = "haiku" }

--- By the name of the token.
local CLIENTS = {
  ci = { model = "haiku", effort = "low", max_output_tokens = 4000 },
  guest = { refusal = "guests may ask from nine to five" },
}

local M = {}

function M.route(request)
  local http = request.http
  if not http then return nil, "it is for parley serve, whose requests have 'http'" end
  if (http.headers["user-agent"] or ""):find "^curl/7" then return nil, "that client is too old" end
  local client = CLIENTS[http.client] or {}
  if client.refusal then return nil, client.refusal end
  local model = client.model or MODELS[request.options.model]
  return { options = { model = model, effort = client.effort, max_output_tokens = client.max_output_tokens } }
end

return M
