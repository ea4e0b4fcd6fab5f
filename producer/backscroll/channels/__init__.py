"""What a chat platform's library hands to a bot, as changes of a history.

from backscroll.channels import telegram

for change in telegram.read(update, me=bot.id):
    await change.to(producer)

`telegram`, `slack`, `discord` and `matrix` have each a function `read`. It is pure, imports nothing
of the platform's library, and reads only the attributes that its documentation names. It never
raises for what a platform sent, whatever that is: an update that is not a message gives ().
"""

from backscroll.channels.changes import Change, Deleted, Edited, Moved, Said

__all__ = ["Change", "Deleted", "Edited", "Moved", "Said"]
