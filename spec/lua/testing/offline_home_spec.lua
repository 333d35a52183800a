local helper = require "spec.helper"
local json = require("parley.core").json
local offline_home = require "parley.testing.offline_home"
local uv = require "luv"

local function read(path)
  local file <close> = assert(io.open(path))
  return assert(json.decode(file:read "a"))
end

describe("an offline home", function()
  after_each(helper.remove_folders)

  it("answers every start-up dialog", function()
    local home <close> = offline_home.new { base_url = "http://127.0.0.1:1" }
    local remembered, settings = read(home.home .. "/.claude.json"), read(home.home .. "/.claude/settings.json")
    assert.is_true(remembered.hasCompletedOnboarding)
    assert.is_true(remembered.bypassPermissionsModeAccepted)
    assert.is_true(remembered.projects[home.cwd].hasTrustDialogAccepted)
    assert.same({ home.extra_env.ANTHROPIC_API_KEY:sub(-20) }, remembered.customApiKeyResponses.approved)
    assert.same({ skipDangerousModePermissionPrompt = true }, settings)
  end)

  for answer, is_open in pairs {
    onboarding = function(home) return read(home .. "/.claude.json").hasCompletedOnboarding == nil end,
    trust = function(home)
      local _, project = next(read(home .. "/.claude.json").projects)
      return not project.hasTrustDialogAccepted
    end,
    api_key = function(home) return #read(home .. "/.claude.json").customApiKeyResponses.approved == 0 end,
    bypass = function(home)
      return read(home .. "/.claude.json").bypassPermissionsModeAccepted == nil
        and read(home .. "/.claude/settings.json").skipDangerousModePermissionPrompt == nil
    end,
  } do
    it("leaves out the answer of " .. answer, function()
      local home <close> = offline_home.new { answers = { [answer] = false } }
      assert.is_true(is_open(home.home))
      local whole <close> = offline_home.new()
      assert.is_false(is_open(whole.home))
    end)
  end

  it("gives the variables that point the program at it", function()
    local home <close> = offline_home.new {
      base_url = "http://127.0.0.1:1", variables = { CLAUDE_CODE_MAX_RETRIES = "1" },
    }
    assert.equal(home.home, home.extra_env.HOME)
    assert.equal("http://127.0.0.1:1", home.extra_env.ANTHROPIC_BASE_URL)
    assert.equal("1", home.extra_env.IS_SANDBOX)
    assert.equal("1", home.extra_env.CLAUDE_CODE_MAX_RETRIES)
    assert.equal(home.cwd, uv.fs_realpath(home.cwd))
  end)

  it("has the program keep out of the config folder that the user's environment names", function()
    uv.os_setenv("CLAUDE_CONFIG_DIR", "/the/user's")
    finally(function() uv.os_unsetenv "CLAUDE_CONFIG_DIR" end)
    local home <close> = offline_home.new {}
    assert.equal(home.home .. "/.claude", home.extra_env.CLAUDE_CONFIG_DIR)
    assert.same(read(home.home .. "/.claude.json"), read(home.extra_env.CLAUDE_CONFIG_DIR .. "/.claude.json"))
  end)

  it("adds settings of the caller's", function()
    local home <close> = offline_home.new { settings = { model = "opus" } }
    local settings = read(home.home .. "/.claude/settings.json")
    assert.same({ model = "opus", skipDangerousModePermissionPrompt = true }, settings)
  end)

  it("keeps others out", function()
    local home <close> = offline_home.new()
    assert.equal("700", ("%o"):format(uv.fs_stat(home.home).mode & 511))
    assert.equal("600", ("%o"):format(uv.fs_stat(home.home .. "/.claude.json").mode & 511))
  end)

  it("removes everything when closed, links and not what they point at, and once", function()
    local outside = helper.temporary_folder()
    local target = helper.write(outside .. "/file", "stays")
    local home = offline_home.new()
    assert(uv.fs_mkdir(home.cwd .. "/inner", 448))
    assert(uv.fs_symlink(target, home.cwd .. "/inner/file"))
    assert(uv.fs_symlink(outside, home.cwd .. "/inner/folder"))
    home:close()
    home:close()
    assert.is_nil(uv.fs_stat(home.home))
    assert.is_nil(uv.fs_stat(home.cwd))
    assert.same({ "file" }, helper.names_in(outside))
  end)

  it("names an answer that there is not", function()
    local ok, err = pcall(offline_home.new, { answers = { trusted = true } })
    assert.is_false(ok)
    assert.equal("ValueError", err.code)
    assert.equal("answers", err.option)
  end)
end)
