local suggest = require "parley.base.suggest"

describe("suggest.near", function()
  local names = { "model", "settings", "effort", "cwd" }

  it("names what one slip away stands for", function()
    for _, word in ipairs { "modle", "odel", "modell", "Model", "mobel" } do
      assert.equal("; did you mean 'model'?", suggest.near(word, names), word)
    end
  end)

  it("names the nearest of several", function()
    assert.equal("; did you mean 'cwd'?", suggest.near("cvwd", { "cw", "cwd", "cut" }))
    assert.equal("; did you mean 'settings'?", suggest.near("setting", { "sittings", "settings" }))
  end)

  it("names the first of equals", function()
    assert.equal("; did you mean 'bat'?", suggest.near("at", { "bat", "cat" }))
  end)

  it("says nothing when none is near", function()
    assert.equal("", suggest.near("temperature", names))
    assert.equal("", suggest.near("x", names))
    assert.equal("", suggest.near("model", {}))
  end)

  it("knows what a short word is short for, where it is asked to", function()
    assert.equal("; did you mean 'settings'?", suggest.near("stngs", names, true))
    assert.equal("", suggest.near("stngs", names))
    for _, word in ipairs { "st", "tings", "sgt_", "%.s" } do
      assert.equal("", suggest.near(word, names, true), word)
    end
  end)

  it("is soon done with a long word", function()
    local began = os.clock()
    assert.equal("", suggest.near(("model"):rep(60000), names))
    assert.is_true(os.clock() - began < 0.5)
  end)

  it("takes an empty word", function()
    assert.equal("", suggest.near("", names))
  end)
end)
