---@meta parley.types
--- The tables that a user's script gives to Parley, for the language server; nobody loads this. lua/README.md says more
--- of each option, `parley.testing` of the test kit's.

---@alias parley.Dialog.Kind "trust"|"bypass"|"api_key"|"mcp"|"imports"|"permission"|"plan"
---@alias parley.PermissionMode "acceptEdits"|"auto"|"bypassPermissions"|"default"|"dontAsk"|"plan"

---A message of the Messages API.
---@class parley.Message
---@field role "user"|"assistant"
---@field content string|table[]

---@class parley.Dimensions
---@field rows integer
---@field columns integer

---Policies: a table with some of the functions, or the path of a Lua file that returns one.
---@class parley.Policies
---@field routing? table|string
---@field injection? table|string
---@field mcp_config? table|string
---@field readiness? table|string
---@field dialogs? table|string
---@field delivery? table|string
---@field settling? table|string

---Options of `claude`'s process that one session may have for itself.
---@class parley.OwnOptions
---@field executable? string              default "claude"
---@field cwd? string
---@field permission_mode? parley.PermissionMode  default "bypassPermissions"
---@field dangerously_skip_permissions? boolean
---@field model? string
---@field system_prompt? string
---@field append_system_prompt? string
---@field allowed_tools? string[]
---@field disallowed_tools? string[]
---@field mcp_config? string|string[]     files
---@field add_dir? string|string[]
---@field effort? string
---@field settings? string|table          a file, JSON, or what becomes JSON
---@field extra_args? string[]
---@field dimensions? parley.Dimensions   default 40 rows, 120 columns
---@field preserve_provider_env? boolean
---@field extra_env? table<string, string>
---@field capture_limit? integer          bytes of `captured_output`
---@field accept? parley.Dialog.Kind[]    dialogs that may be answered with yes
---@field startup_timeout_ms? number      default 60000
---@field turn_timeout_ms? number         default: none
---@field stall_timeout_ms? number        default 600000
---@field file_wait_timeout_ms? number    default 30000
---@field mentions? "allow"|"refuse"
---@field tools? parley.Tool[]            functions of yours that the model may call

---Options of `parley.process` and `parley.session`.
---@class parley.SessionOptions: parley.OwnOptions
---@field policies? parley.Policies
---@field session_id? string              a UUID; default: a new one
---@field resume_session_id? string
---@field fork_session? boolean           resume under a new id
---@field base_env? table<string, string> default: the environment of this process

---Options of `parley.backend`.
---@class parley.BackendOptions: parley.OwnOptions
---@field policies? parley.Policies
---@field history_injection_mode? "native_jsonl"|"concat_message"
---@field max_sessions? integer           default 8
---@field idle_timeout_ms? number         default: never
---@field mcp_servers? table<string, table>  by name, as in `.mcp.json`
---@field session_factory? fun(backend: table, id: string, resume: boolean, jsonl_path: string, offset: integer): table
