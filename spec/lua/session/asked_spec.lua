local asked = require "parley.session.asked"

describe("what a dialog is about", function()
  local function payload(command, id)
    return { tool_name = "Bash", tool_input = { command = command }, tool_use_id = id }
  end

  ---What knows of these calls, all told of and announced in their order.
  local function knowing(...)
    local known = asked.new()
    for i, command in ipairs { ... } do known:tell(payload(command, "id" .. i)) end
    for _, command in ipairs { ... } do known:announce(payload(command)) end
    return known
  end

  local function only_of(known) return (known:only() or {}).id end

  local function ids_with(known, ...)
    local ids = {}
    for i, call in ipairs(known:with { ... }) do ids[i] = call.id end
    return ids
  end

  it("is the call that was announced, with its id", function()
    assert.same({ type = "tool_use", id = "id1", name = "Bash", input = { command = "ls" } }, knowing("ls"):only())
  end)

  it("is one of several, until one is left", function()
    local known = knowing("ls", "ls", "pwd")
    assert.is_nil(known:only())
    assert.same({ "id0", "id2", "id1", "id3" }, ids_with(known, { id = "id0" }, { id = "id2" }))
    known:answer "id3"
    known:answer "id1"
    assert.equal("id2", only_of(known))
    known:answer "id2"
    assert.same({}, ids_with(known))
  end)

  it("is not known of a call that nobody told of, and the next one is again", function()
    local known = asked.new()
    known:announce(payload "changed")
    known:tell(payload("ls", "id1"))
    known:announce(payload "ls")
    assert.is_nil(known:only())
    known:answer(nil)
    assert.equal("id1", only_of(known))
  end)

  it("is in doubt behind a dialog that was not announced", function()
    local known = knowing "ls"
    known:answer(nil)
    assert.is_nil(known:only())
    assert.same({ "id1" }, ids_with(known))
    known:answer "id1"
    known:tell(payload("pwd", "id2"))
    known:announce(payload "pwd")
    assert.equal("id2", only_of(known))
  end)

  it("is no call that is over, whoever has answered for it", function()
    local known = knowing("ls", "pwd")
    known:settle({ id1 = true, id2 = true }, { { id = "id2" } })
    assert.equal("id2", only_of(known))
    known:settle({}, {}) -- the transcript comes late
    assert.equal("id2", only_of(known))
    known:forget()
    assert.is_nil(known:only())
  end)
end)
