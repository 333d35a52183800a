local uv = require "luv"
local core = require "parley.core"
local doctor = require "parley.command.doctor"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local task = require "parley.base.task"

local KEY = "sk-ant-0123456789-abcdefghij"

describe("doctor", function()
  local home, cwd, check_leaks, environment, options

  before_each(function()
    check_leaks = helper.leaks()
    home = helper.temporary_folder()
    cwd = home .. "/work"
    files.make_folder(home .. "/.claude")
    files.make_folder(cwd)
    environment = { HOME = home, PATH = home .. "/bin:/bin:/usr/bin", IS_SANDBOX = "1" }
    options = { executable = home .. "/claude", cwd = cwd, base_env = environment }
    helper.write_script(home .. "/claude", "echo '2.1.330 (Claude Code)'")
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function put(path, value)
    local text = type(value) == "string" and value or assert(core.json.encode(value))
    files.make_folder(path:match "^(.*)/")
    return helper.write(path, text)
  end

  local function remember(state) put(home .. "/.claude.json", state) end

  --- What is all right: every start-up dialog answered, a login.
  local function make_well()
    remember { hasCompletedOnboarding = true, projects = { [cwd] = { hasTrustDialogAccepted = true } } }
    put(home .. "/.claude/settings.json", { skipDangerousModePermissionPrompt = true })
    put(home .. "/.claude/.credentials.json", { claudeAiOauth = { accessToken = "secret-token", refreshToken = "r" } })
  end

  local function examine(accept, more) return doctor.examine(options, accept, more) end

  --- The finding of a check: its level, message and remedy; nil when there is none.
  local function finding(check, accept)
    for _, found in ipairs((examine(accept))) do
      if found.check == check then return found.level, found.message, found.remedy end
    end
  end

  it("finds nothing wrong where nothing is", helper.task(function()
    make_well()
    local findings, context = examine()
    assert.equal("ok", doctor.worst(findings))
    assert.equal("2.1.330", context.version)
    assert.equal(cwd, context.cwd)
  end))

  it("gives every problem and warning a remedy", helper.task(function()
    environment.IS_SANDBOX, options.executable, options.dimensions = nil, "none-such", { 20, 40 }
    put(home .. "/.claude/settings.json", "{")
    local findings = examine()
    assert.equal("problem", doctor.worst(findings))
    for _, found in ipairs(findings) do
      assert.equal(found.level == "ok", found.remedy == nil, found.message)
    end
  end))

  it("raises ValueError for bad options", helper.task(function()
    options.cwd = home .. "/none"
    local ok, err = pcall(examine)
    assert.is_false(ok)
    assert.is_true(errors.is(err, "ValueError"))
  end))

  describe("on what conformance says of the version", function()
    local known = require "parley.claude.conformance"
    local tried = {}

    before_each(function()
      for version, entry in pairs(known) do tried[version] = entry end
      known["2.1.300"] = { date = "2026-11-01" }
      known["2.1.301"] = { date = "2026-11-02", short = "tabs, 1 MB" }
      known["2.1.302"] = { date = "2026-11-03", short = "tabs", wrong = "60 lines, code" }
      known["2.1.399"] = { date = "2026-11-04" }
    end)
    after_each(function()
      for version in pairs(known) do known[version] = tried[version] end
    end)

    local function said_of(version)
      helper.write_script(home .. "/claude", ("echo '%s (Claude Code)'"):format(version))
      return finding "conformance"
    end

    it("tells one that kept every promise", helper.task(function()
      local level, message = said_of "2.1.300"
      assert.equal("ok", level)
      assert.equal("on 2026-11-01 version 2.1.300 kept every promise", message)
    end))

    it("tells what one falls short of", helper.task(function()
      local level, message = said_of "2.1.301"
      assert.equal("ok", level)
      assert.equal("on 2026-11-02 version 2.1.301 kept every promise, but for: tabs, 1 MB", message)
    end))

    it("warns of one that broke some", helper.task(function()
      local level, message = said_of "2.1.302"
      assert.equal("warning", level)
      assert.equal("on 2026-11-03 version 2.1.302 broke promises: 60 lines, code; falls short of: tabs", message)
    end))

    it("warns of one that is newer than any that was tried, and of one between", helper.task(function()
      local level, message = said_of "2.1.400"
      assert.equal("warning", level)
      assert.equal("nothing is known of 2.1.400: it is newer than any that was tried (2.1.399)", message)
      level, message = said_of "2.1.115"
      assert.equal("warning", level)
      assert.equal("nothing is known of 2.1.115: it was not tried; the newest that was is 2.1.399", message)
    end))

    it("says nothing more of one that is too old", helper.task(function()
      assert.is_nil(said_of "2.0.77")
    end))
  end)

  describe("on the executable", function()
    it("tells path and version", helper.task(function()
      options.executable = "claude"
      files.make_folder(home .. "/bin")
      helper.write_script(home .. "/bin/claude", "echo '2.1.400 (Claude Code)'")
      local level, message = finding "executable"
      assert.equal("ok", level)
      assert.equal(home .. "/bin/claude, version 2.1.400", message)
    end))

    it("finds none on the PATH", helper.task(function()
      options.executable = "claude-that-is-not-there"
      local level, message = finding "executable"
      assert.equal("problem", level)
      assert.equal("there is no program 'claude-that-is-not-there' on the PATH", message)
    end))

    it("finds one that may not be run", helper.task(function()
      helper.write(home .. "/claude", "", "600")
      local level, message = finding "executable"
      assert.equal("problem", level)
      assert.matches("that may be run", message, 1, true)
    end))

    it("warns of an old version", helper.task(function()
      helper.write_script(home .. "/claude", "echo '2.0.77 (Claude Code)'")
      local level, message = finding "executable"
      assert.equal("warning", level)
      assert.matches("2.0.77, older", message, 1, true)
    end))

    it("is not taken in by another program", helper.task(function()
      helper.write_script(home .. "/claude", "echo hello")
      local level, message = finding "executable"
      assert.equal("problem", level)
      assert.matches("prints no version", message, 1, true)
    end))

    it("does not wait for ever, and leaves no process", helper.task(function()
      helper.write_script(home .. "/claude", "echo $$ > " .. home .. "/pid; exec sleep 600")
      local findings = examine(nil, { version_timeout_ms = 300 })
      assert.equal("problem", findings[1].level)
      assert.matches("has not ended after 0.3 s", findings[1].message, 1, true)
      assert.is_true(helper.has_ended(tonumber(files.read(home .. "/pid"))))
    end))

    it("leaves no process when it is cancelled", helper.task(function()
      helper.write_script(home .. "/claude", "echo $$ > " .. home .. "/pid; exec sleep 600")
      local asking = task.spawn(examine)
      local pid = helper.eventually(function() return tonumber(files.read(home .. "/pid") or "") end)
      asking:cancel()
      assert.is_false(pcall(asking.await, asking))
      assert.is_true(helper.has_ended(pid))
    end))

    it("runs it in claude's environment", helper.task(function()
      environment.ANTHROPIC_API_KEY = KEY
      helper.write_script(home .. "/claude", 'echo "$HOME/1.2.3/${ANTHROPIC_API_KEY:-none}" > $HOME/seen; echo 2.1.330')
      finding "executable"
      assert.equal(home .. "/1.2.3/none\n", files.read(home .. "/seen"))
    end))
  end)

  describe("on the config folder", function()
    it("misses one", helper.task(function()
      environment.CLAUDE_CONFIG_DIR = home .. "/none"
      local level, message = finding "config"
      assert.equal("problem", level)
      assert.matches("/none does not exist", message, 1, true)
    end))

    it("looks where CLAUDE_CONFIG_DIR says", helper.task(function()
      environment.CLAUDE_CONFIG_DIR = home .. "/config"
      put(home .. "/config/.claude.json", { hasCompletedOnboarding = true })
      assert.equal("ok", (finding "config"))
      assert.equal("ok", (finding "onboarding"))
    end))

    it("names each file that is no JSON object", helper.task(function()
      for _, path in ipairs { home .. "/.claude.json", home .. "/.claude/settings.json",
        cwd .. "/.claude/settings.json", cwd .. "/.claude/settings.local.json" } do
        put(path, "[1]")
        local level, message = finding "files"
        assert.equal("problem", level)
        assert.matches(path .. " is no JSON object", message, 1, true)
        assert(uv.fs_unlink(path))
      end
      assert.is_nil(finding "files")
    end))
  end)

  it("tells whether the first start was gone through", helper.task(function()
    assert.equal("problem", (finding "onboarding"))
    remember { hasCompletedOnboarding = true }
    assert.equal("ok", (finding "onboarding"))
  end))

  describe("on the login", function()
    it("misses one", helper.task(function()
      local level, message = finding "login"
      assert.equal("problem", level)
      assert.equal("no login was found: no account, no key", message)
    end))

    it("knows an account", helper.task(function()
      make_well()
      assert.equal("ok", (finding "login"))
      assert.is_nil(finding "credentials")
    end))

    it("knows that an account's login has expired, unless it can be renewed", helper.task(function()
      local past = (os.time() - 60) * 1000
      put(home .. "/.claude/.credentials.json", { claudeAiOauth = { accessToken = "t", expiresAt = past } })
      assert.equal("problem", (finding "login"))
      put(home .. "/.claude/.credentials.json", { claudeAiOauth = { refreshToken = "r", expiresAt = past } })
      assert.equal("ok", (finding "login"))
    end))

    it("warns of credentials that others can read", helper.task(function()
      make_well()
      assert(uv.fs_chmod(home .. "/.claude/.credentials.json", tonumber("644", 8)))
      local level, _, remedy = finding "credentials"
      assert.equal("warning", level)
      assert.matches("^chmod 600 ", remedy)
    end))

    it("says that a key of the environment is kept from claude", helper.task(function()
      environment.ANTHROPIC_API_KEY = KEY
      local level, message, remedy = finding "login"
      assert.equal("problem", level)
      assert.matches("is kept from claude", message, 1, true)
      assert.matches("--preserve-provider-env", remedy, 1, true)
      assert.same({ "ok", "kept from claude: ANTHROPIC_API_KEY" }, { finding "environment" })
    end))

    describe("by a key", function()
      before_each(function()
        environment.ANTHROPIC_API_KEY, options.preserve_provider_env = KEY, true
      end)

      it("knows whether it was approved", helper.task(function()
        assert.equal("problem", (finding "login"))
        remember { customApiKeyResponses = { approved = { KEY:sub(-20) } } }
        assert.equal("ok", (finding "login"))
        remember { customApiKeyResponses = { rejected = { KEY:sub(-20) } } }
        assert.equal("warning", (finding "login"))
      end))

      it("knows that the dialog may be answered", helper.task(function()
        assert.equal("ok", (finding("login", { "api_key" })))
      end))
    end)

    it("knows other ways", helper.task(function()
      for _, name in ipairs { "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK" } do
        options.extra_env = { [name] = "1" }
        assert.equal("ok", (finding "login"))
      end
      options.extra_env = nil
      put(home .. "/.claude/settings.json", { apiKeyHelper = "/bin/key" })
      assert.equal("ok", (finding "login"))
      put(home .. "/.claude/settings.json", {})
      remember { primaryApiKey = KEY }
      assert.equal("ok", (finding "login"))
    end))

    it("takes what is there and empty for none", helper.task(function()
      for _, nothing in ipairs { core.json.null, "", false } do
        put(home .. "/.claude/settings.json", { apiKeyHelper = nothing, env = { ANTHROPIC_API_KEY = nothing,
          ANTHROPIC_AUTH_TOKEN = nothing } })
        remember { primaryApiKey = nothing }
        assert.equal("problem", (finding "login"))
      end
    end))

    it("tells no secret", helper.task(function()
      make_well()
      environment.ANTHROPIC_API_KEY = KEY
      for _, answer in ipairs { "approved", "rejected", "none" } do
        remember { customApiKeyResponses = { [answer] = { KEY:sub(-20) } }, primaryApiKey = KEY }
        for _, preserve in ipairs { true, false } do
          options.preserve_provider_env = preserve
          local text = assert(core.json.encode((examine())))
          assert.not_matches(KEY:sub(-10), text, 1, true)
          assert.not_matches("secret-token", text, 1, true)
        end
      end
    end))
  end)

  describe("on trust", function()
    it("knows the folder, or one above it", helper.task(function()
      assert.equal("problem", (finding "trust"))
      remember { projects = { [cwd] = { hasTrustDialogAccepted = false } } }
      assert.equal("problem", (finding "trust"))
      remember { projects = { [home] = { hasTrustDialogAccepted = true } } }
      local level, message = finding "trust"
      assert.equal("ok", level)
      assert.matches("stands in " .. home .. ",", message, 1, true)
    end))

    it("goes by the real path", helper.task(function()
      remember { projects = { [cwd] = { hasTrustDialogAccepted = true } } }
      assert(uv.fs_symlink(cwd, home .. "/link"))
      options.cwd = home .. "/link"
      assert.equal("ok", (finding "trust"))
    end))

    it("knows that the dialog may be answered", helper.task(function()
      local level, message = finding("trust", { "trust" })
      assert.equal("ok", level)
      assert.matches("will be answered", message, 1, true)
    end))
  end)

  describe("on permissions", function()
    it("knows where the bypass was accepted", helper.task(function()
      assert.equal("problem", (finding "permissions"))
      put(home .. "/.claude/settings.json", { skipDangerousModePermissionPrompt = true })
      assert.equal("ok", (finding "permissions"))
      put(home .. "/.claude/settings.json", {})
      remember { bypassPermissionsModeAccepted = true }
      assert.equal("ok", (finding "permissions"))
    end))

    it("knows that root needs IS_SANDBOX", helper.task(function()
      make_well()
      environment.IS_SANDBOX = nil
      assert.equal(uv.getuid() == 0 and "problem" or "ok", (finding "permissions"))
    end))

    it("knows that settings can forbid the bypass", helper.task(function()
      make_well()
      put(cwd .. "/.claude/settings.json", { permissions = { disableBypassPermissionsMode = "disable" } })
      local level, message = finding "permissions"
      assert.equal("problem", level)
      assert.matches("forbid", message, 1, true)
    end))

    it("has nothing against another mode", helper.task(function()
      options.permission_mode = "plan"
      assert.same({ "ok", "permission mode plan" }, { finding "permissions" })
    end))
  end)

  it("tells where the transcripts will be", helper.task(function()
    local name = cwd:gsub("[^%w]", "-")
    assert.same({ "ok", home .. "/.claude/projects/" .. name }, { finding "transcripts" })
  end))

  it("warns of a small terminal", helper.task(function()
    assert.same({ "ok", "claude gets 40 rows and 120 columns" }, { finding "terminal" })
    options.dimensions = { 20, 40 }
    assert.equal("warning", (finding "terminal"))
  end))
end)
